"""Proof that a runtime works: one small program, run like any job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

from domain.sandbox.contract import JobFile, JobLimits, SandboxJob, SandboxResult, Verdict
from sandbox_host.jobs import prepare
from sandbox_host.runtimes.base import RuntimeFailure

if TYPE_CHECKING:
    from sandbox_host.runtimes.base import Runtime

_CANARY = """\
import os, sys
assert os.getpid() != 1, "the program is PID 1"
assert os.getuid() != 0, "the program is root"
open("written", "w").write("x")
sys.stdout.write(sys.stdin.read())
"""
_SONG = "tweet"
_SECONDS = 20.0


async def fly_canary(runtime: Runtime) -> SandboxResult:
    """Run the canary and return its result.

    Raises:
        RuntimeFailure: it did not run, or not as it should.
    """
    job = SandboxJob(
        run_id=uuid4(),
        intent_id=uuid4(),
        language="python",
        files=(JobFile(path="canary.py", content=_CANARY),),
        entrypoint="canary.py",
        stdin=_SONG,
        limits=JobLimits(wall_seconds=10, processes=4),
    )
    try:
        result = await asyncio.wait_for(runtime.run(prepare(job)), _SECONDS)
    except TimeoutError:
        raise RuntimeFailure(f"the canary had no result after {_SECONDS:.0f} s") from None
    if result.verdict is not Verdict.SUCCEEDED or result.stdout != _SONG:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeFailure(f"the canary ended as {result.verdict}: {last}")
    return result
