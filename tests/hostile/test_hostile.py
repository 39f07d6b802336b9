"""Hostile programs: each is contained, judged rightly, and leaves host and next job unharmed.

A case's name is that of its family and program; the runtimes take turns. gVisor's boxes take twice
as long as others, so that every third program must do for them; ``make soak`` runs all.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from _pytest.mark import ParameterSet

from sandbox_host.runtimes.base import Runtime
from tests.hostile.programs.families import PROBES, PROGRAMS
from tests.support.hostile.attack import attack
from tests.support.hostile.case import PROBED_RUNTIMES, Probe, Program
from tests.support.hostile.decoys import Decoys
from tests.support.hostile.probing import Probed, makes_sense_here
from tests.support.sandbox.runtimes import (
    GVISOR,
    RUNTIMES,
    in_fact,
    needs,
    on_runtime,
)

pytestmark = pytest.mark.timeout(300)


def _on_each_runtime(name: str, cases: list[ParameterSet]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("runtime_name", *name.split()), cases)


def _programs_on(runtime: str) -> list[tuple[str, Program]]:
    """Those to run there, with their families."""
    found = [
        (family, program)
        for family, programs in PROGRAMS.items()
        for program in programs
        if program.runs_on(runtime)
    ]
    return found[2::3] if runtime == GVISOR and "QLP_SOAK_JOBS" not in os.environ else found


@_on_each_runtime(
    "program",
    [
        on_runtime(runtime, program, id=f"{runtime}:{family}:{program.name}")
        for runtime in RUNTIMES
        for family, program in _programs_on(runtime)
    ],
)
async def test_a_hostile_program_is_contained(
    target: Runtime,
    runtime_name: str,
    program: Program,
    decoys: Decoys,
    record_property: Callable[[str, object], None],
) -> None:
    needs(target, program.needs)
    runtime_name = in_fact(runtime_name)
    if not program.runs_on(runtime_name):
        pytest.skip("bubblewrap: this user cannot make cgroups, which would hold the limits")
    outcome = await attack(target, program, decoys)
    result = outcome.result
    record_property("verdict", result.verdict.value)
    verdicts, contained = program.expected_on(runtime_name)
    assert result.verdict in verdicts, (result.verdict, result.stdout[:500], result.stderr[-2000:])
    assert contained(result), result
    assert decoys.secret not in result.stdout + result.stderr
    assert not decoys.reached_listeners()
    outcome.assert_nothing_harmed()


@_on_each_runtime(
    "family probe",
    [
        on_runtime(runtime, family, probe, id=f"{runtime}:{family}:{probe.name}")
        for runtime in PROBED_RUNTIMES
        for family, probes in PROBES.items()
        for probe in probes
        if makes_sense_here(probe)
    ],
)
async def test_an_attempt_is_refused(
    probed: Probed,
    runtime_name: str,
    family: str,
    probe: Probe,
    record_property: Callable[[str, object], None],
) -> None:
    finding = probed[0][probe.name]
    record_property("outcome", finding.outcome)
    if finding.outcome == "reached" and runtime_name in probe.open_on:
        return
    assert finding.outcome == "refused", finding.detail


@_on_each_runtime(
    "family",
    [
        on_runtime(runtime, family, id=f"{runtime}:{family}")
        for runtime in PROBED_RUNTIMES
        for family in PROBES
    ],
)
async def test_the_attempts_leave_the_host_as_it_was(probed: Probed, family: str) -> None:
    _, damage = probed
    assert not damage, (family, damage)
