"""The same program has the same answer in every runtime."""

from __future__ import annotations

import asyncio

from domain.contracts.job import Verdict
from sandbox_host.runtimes.base import Runtime
from tests.support.sandbox.ordinary_programs import AS_HOST, ORDINARY, Ordinary
from tests.support.sandbox.runtimes import lacks, prepared, run

#: Programs at once: a few, since the machine is shared.
_AT_ONCE = 3


async def test_every_ordinary_program_has_its_one_answer(runtime: Runtime) -> None:
    offered = (await runtime.preflight()).languages
    slots = asyncio.Semaphore(_AT_ONCE)
    wrong: dict[str, object] = {}

    async def see(program: Ordinary) -> None:
        async with slots:
            job = prepared(
                program.source,
                language=program.language,
                files=dict(program.files),
                args=program.args,
                stdin=program.stdin,
                environment=dict(program.environment),
            )
            result = await run(runtime, job)
        right = (Verdict.SUCCEEDED, program.expects, "")
        found = (result.verdict, result.stdout, result.stderr)
        if found != right:
            wrong[f"{program.language}: {program.name}"] = found

    here = {runtime.name, AS_HOST if lacks(runtime, "own user") else ""}
    comparable = [
        one for one in ORDINARY if one.language in offered and here.isdisjoint(one.differs)
    ]
    await asyncio.gather(*(see(program) for program in comparable))
    assert not wrong


def test_there_are_forty_of_them() -> None:
    assert len({(program.language, program.name) for program in ORDINARY}) == len(ORDINARY) >= 40
