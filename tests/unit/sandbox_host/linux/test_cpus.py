"""Programs are spread over all CPUs but the first."""

from __future__ import annotations

import os

import pytest

from sandbox_host.linux.cpus import ProgramCpus


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The CPUs that this process may use."""
    cpus = {2, 5, 7}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: cpus)
    return cpus


def test_a_program_gets_the_cpu_with_the_fewest(allowed: set[int]) -> None:
    cpus = ProgramCpus()
    with cpus.one() as first, cpus.one() as second:
        assert {first, second} == allowed - {2}
        with cpus.one() as third:
            assert third in {5, 7}
    with cpus.one() as long_runner:
        for _ in range(3):
            with cpus.one() as short:
                assert short != long_runner


def test_the_only_cpu_is_shared_with_the_host(allowed: set[int]) -> None:
    assert "never the first" in ProgramCpus.description()
    allowed -= {2, 7}
    with ProgramCpus().one() as cpu:
        assert cpu == 5
    assert "may use no other" in ProgramCpus.description()
