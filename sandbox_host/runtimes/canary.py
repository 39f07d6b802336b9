"""The canary: a small program, run like any job, that proves that a runtime works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from uuid import uuid4

from domain.contracts.job import JobFile, JobLimits, SandboxJob, SandboxResult, Verdict
from sandbox_host.run.job import prepare
from sandbox_host.runtimes.base import RuntimeFailure, TooSlow

if TYPE_CHECKING:
    from sandbox_host.runtimes.base import Runtime

CANARY = """\
import os, sys
assert os.getpid() != 1, "the program is PID 1"
assert os.getuid() != 0, "the program is root"
open("written", "w").write("x")
sys.stdout.write(sys.stdin.read())
"""
_EXPECTED_OUTPUT = "tweet"
_SECONDS = 20.0

#: Verdicts on an empty program whose interpreter cannot run here.
_BROKEN = {Verdict.EXITED, Verdict.SIGNALLED, Verdict.OUT_OF_MEMORY}


async def run_canary(runtime: Runtime, program: str = CANARY) -> SandboxResult:
    """Run the canary and return its result.

    Args:
        runtime: runs it.
        program: in Python; copies its standard input to its standard output.

    Raises:
        TooSlow: it, or its box, was not done in time.
        RuntimeFailure: it did not run, or failed.
    """
    job = SandboxJob(
        run_id=uuid4(),
        intent_id=uuid4(),
        language="python",
        files=(JobFile(path="canary.py", content=program),),
        entrypoint="canary.py",
        stdin=_EXPECTED_OUTPUT,
        limits=JobLimits(wall_seconds=10, processes=4),
    )
    try:
        result = (await asyncio.wait_for(runtime.run(prepare(job)), _SECONDS)).result
    except TimeoutError:
        raise TooSlow(f"the canary had no result after {_SECONDS:.0f} s") from None
    if result.verdict is Verdict.TIMED_OUT:
        raise TooSlow(f"the canary had not ended after {job.limits.wall_seconds:.0f} s")
    if result.verdict is not Verdict.SUCCEEDED or result.stdout != _EXPECTED_OUTPUT:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeFailure(f"the canary ended as {result.verdict}: {last}")
    return result


async def prove(runtime: Runtime, busy: Callable[[], bool]) -> bool:
    """Run the canary; False if it was merely too slow, while programs keep the runtime busy.

    That proves nothing, so no program can stop the host from taking further jobs.

    Args:
        runtime: runs it.
        busy: whether it runs programs now.

    Raises:
        RuntimeFailure: it did not run.
    """
    was_busy = busy()
    try:
        await run_canary(runtime)
    except TooSlow:
        if not (was_busy or busy()):
            raise
        return False
    return True


async def proved_languages(
    runtime: Runtime, languages: Iterable[str], busy: Callable[[], bool]
) -> tuple[str, ...]:
    """Those of ``languages`` that run, once the canary has run; all, if it proves nothing.

    Raises:
        RuntimeFailure: the canary did not run.
    """
    if not await prove(runtime, busy):
        return tuple(languages)
    return await languages_that_run(runtime, languages)


async def languages_that_run(runtime: Runtime, languages: Iterable[str]) -> tuple[str, ...]:
    """Those of ``languages`` whose interpreters run an empty program.

    An interpreter that merely takes too long, on a busy machine, counts as running.
    """
    names = tuple(languages)
    verdicts = await asyncio.gather(*(_of_nothing(runtime, name) for name in names))
    ran = dict(zip(names, verdicts, strict=True))
    return tuple(name for name in names if ran[name] not in _BROKEN)


async def _of_nothing(runtime: Runtime, language: str) -> Verdict:
    job = SandboxJob(
        run_id=uuid4(),
        intent_id=uuid4(),
        language=language,
        files=(JobFile(path="nothing", content=""),),
        entrypoint="nothing",
        limits=JobLimits(wall_seconds=10),
    )
    return (await runtime.run(prepare(job))).result.verdict
