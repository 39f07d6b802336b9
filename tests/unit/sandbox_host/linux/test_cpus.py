"""Programs are spread over all CPUs but the first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sandbox_host.linux.cpus import ProgramCpus, bind, threads_of, unbind


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


_THREADS = """\
import os, sys, threading
held = threading.Event()
for _ in range(5): threading.Thread(target=held.wait, daemon=True).start()
print("ready", flush=True); sys.stdin.read()
"""


def test_all_threads_of_a_process_are_bound_and_unbound() -> None:
    everywhere = os.sched_getaffinity(0)
    last = max(everywhere)
    with subprocess.Popen(
        [sys.executable, "-c", _THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        threads = threads_of(process.pid)
        assert len(threads) == 6
        bind([process.pid], last)
        assert [os.sched_getaffinity(thread) for thread in threads] == [{last}] * 6
        unbind([process.pid])
        assert [os.sched_getaffinity(thread) for thread in threads] == [everywhere] * 6
        process.communicate()
    unbind([process.pid])  # has ended
