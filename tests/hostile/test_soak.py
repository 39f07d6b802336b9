"""Hundreds of hostile jobs in a row: none is judged wrongly, and nothing of any is left.

``QLP_SOAK_JOBS`` sets how many; ``make soak`` runs 500 on each runtime.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from itertools import cycle, islice
from uuid import uuid4

import pytest

from domain.contracts.job import Verdict
from sandbox_host.runtimes.base import Runtime
from tests.hostile.programs.families import PROGRAMS
from tests.support.hostile.attack import boxes_kept, damage_since, launch, ordinary_job
from tests.support.hostile.case import Program
from tests.support.hostile.decoys import Decoys
from tests.support.hostile.host_state import HostState
from tests.support.sandbox.runtimes import BUBBLEWRAP, DOCKER, in_fact, on_runtime

_CONCURRENCY = 2

#: Descriptors of a box: its streams, pipes and processes.
_PER_BOX = 10

#: Seconds in which boxes that are let go must be gone.
_SETTLE_SECONDS = 60

#: Three rounds of the mix.
_JOBS = 60

#: Quick programs of every kind of end: a limit, a crash, a lie, a survivor, a mess.
_MIX = (
    "fork-bomb",
    "thread-bomb",
    "memory-hog",
    "disk-full-and-failed",
    "orphan-storm",
    "daemon-with-the-output",
    "many-daemons",
    "kill-everything",
    "suicide",
    "segmentation-fault",
    "closed-and-failed",
    "no-parent-death-signal",
    "one-line",
    "endless-stdout",
    "result-on-every-descriptor",
    "exit-code-137",
    "symbolic-links",
    "special-files",
    "replaced-folder",
    "locked-folders",
)


def _mix() -> tuple[Program, ...]:
    known = {program.name: program for programs in PROGRAMS.values() for program in programs}
    return tuple(known[name] for name in _MIX)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runtime_name", [*map(on_runtime, (BUBBLEWRAP, DOCKER))])
async def test_hostile_jobs_in_a_row_leave_nothing_behind(
    target: Runtime, runtime_name: str, decoys: Decoys
) -> None:
    mark = uuid4().hex
    jobs = int(os.environ.get("QLP_SOAK_JOBS", _JOBS))
    programs = [program for program in _mix() if program.runs_on(in_fact(runtime_name))]
    pending = iter(list(islice(cycle(programs), jobs)))
    wrong: Counter[str] = Counter()

    async def work() -> None:
        for program in pending:
            result = (await launch(target, program, decoys, mark)).result
            verdicts, _ = program.expected_on(in_fact(runtime_name))
            if result.verdict not in verdicts:
                wrong[f"{program.name}: {result.verdict} ({result.stderr[-200:]})"] += 1

    before = HostState.now(mark)
    descriptors = _open_descriptors()
    await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))
    following = (await target.run(ordinary_job())).result
    assert not wrong
    assert following.verdict is Verdict.SUCCEEDED
    assert await damage_since(before, mark, target) == []
    # Those of boxes that wait, and of a connection or two that the engine keeps.
    async with asyncio.timeout(_SETTLE_SECONDS):
        while _open_descriptors() > descriptors + 20 + _PER_BOX * boxes_kept(target):
            await asyncio.sleep(0.1)
    assert not decoys.reached_listeners()


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
