"""Runs one hostile program and looks at what became of it, of the host, and of the next job."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from domain.contracts.job import JobFile, JobLimits, SandboxJob, SandboxResult, Verdict
from domain.contracts.languages import LANGUAGES
from sandbox_host.run.job import PreparedJob, prepare
from sandbox_host.runtimes.base import Pooled, RunControl, RunResult, Runtime
from tests.support.hostile.case import Program
from tests.support.hostile.decoys import Decoys
from tests.support.hostile.host_state import MARK, HostState

#: Leaves room for a busy machine; programs that are to reach a deadline have one of their own.
_WALL_SECONDS = 30.0

#: Seconds in which the host must look as before; a box may be removed after its verdict.
_SETTLE_SECONDS = 30.0

_NEXT_JOB = "print('unharmed')"


@dataclass(frozen=True)
class Outcome:
    """What a hostile program left.

    Attributes:
        run: its own result, with the contents of its artifacts.
        following: result of the ordinary job that ran next.
        damage: what changed on the host.
    """

    run: RunResult
    following: SandboxResult
    damage: list[str]

    @property
    def result(self) -> SandboxResult:
        """The hostile program's result."""
        return self.run.result

    def assert_nothing_harmed(self) -> None:
        """Fail where the host changed, or the next job did not run."""
        assert not self.damage, self.damage
        assert (self.following.verdict, self.following.stdout) == (Verdict.SUCCEEDED, "unharmed\n")


def job_of(program: Program, decoys: Decoys, mark: str) -> PreparedJob:
    """The job that runs ``program``, told where the decoys are."""
    return _job(
        program.source,
        language=program.language,
        stdin=program.stdin,
        environment={**decoys.environment, MARK: mark},
        limits=JobLimits.model_validate({"wall_seconds": _WALL_SECONDS, **program.limits}),
    )


def ordinary_job(source: str = _NEXT_JOB) -> PreparedJob:
    """A well-meant Python program."""
    return _job(source, language="python", limits=JobLimits(wall_seconds=60))


def _job(source: str, *, language: str, limits: JobLimits, **fields: object) -> PreparedJob:
    entrypoint = LANGUAGES[language].entrypoint
    return prepare(
        SandboxJob.model_validate(
            {
                "run_id": uuid4(),
                "intent_id": uuid4(),
                "language": language,
                "files": [JobFile(path=entrypoint, content=source)],
                "entrypoint": entrypoint,
                "limits": limits,
                **fields,
            }
        )
    )


async def attack(runtime: Runtime, program: Program, decoys: Decoys) -> Outcome:
    """Run ``program``, then an ordinary job, and compare the host."""
    mark = uuid4().hex
    before = await asyncio.to_thread(HostState.now, mark)
    run = await launch(runtime, program, decoys, mark)
    following = (await runtime.run(ordinary_job())).result
    return Outcome(run, following, await damage_since(before, mark, runtime))


async def launch(runtime: Runtime, program: Program, decoys: Decoys, mark: str) -> RunResult:
    """Only run ``program``, and have it killed where it says so."""
    control = RunControl()
    if program.killed_after is not None:
        asyncio.get_running_loop().call_later(program.killed_after, control.kill.set)
    return await runtime.run(job_of(program, decoys, mark), control)


async def damage_since(before: HostState, mark: str, runtime: Runtime) -> list[str]:
    """What stays different, once what is being removed has had its time."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        now = await asyncio.to_thread(HostState.now, mark)
        damage = now.damage(before) + now.leftover_boxes(boxes_kept(runtime))
        if not damage or time.monotonic() > deadline:
            return damage
        await asyncio.sleep(0.1)


def boxes_kept(runtime: Runtime) -> int:
    """Boxes that wait for jobs, and those being made for it."""
    if not isinstance(runtime, Pooled):
        return 0
    shelves: Any = runtime.pool_state()["languages"]
    return sum(shelf["waiting"] + shelf["making"] for shelf in shelves.values())
