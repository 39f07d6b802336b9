"""The runtimes under attack, opened once, and decoys on the host for attackers to find."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio

from domain.contracts.job import Verdict
from sandbox_host.runtimes.base import Runtime
from tests.hostile.programs.families import PROBES
from tests.support.hostile.attack import damage_since, launch
from tests.support.hostile.case import Program, anyhow, limits
from tests.support.hostile.decoys import Decoys, placed
from tests.support.hostile.host_state import HostState
from tests.support.hostile.probing import Probed, makes_sense_here, program_of, read_findings
from tests.support.sandbox.runtimes import open_runtime

#: Memory for boxes that wait, where a runtime keeps them: a few.
_POOL_BYTES = 256 << 20


@pytest.fixture(scope="session")
def decoys() -> Iterator[Decoys]:
    """Secrets, listeners and a process of the host, for programs to find."""
    with placed() as found:
        yield found


Open = Callable[[str], Awaitable[Runtime]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def open_target() -> AsyncIterator[Open]:
    """Opens one runtime at a time, so that all boxes belong to it.

    None stays open for the modules after this one, some of which count boxes too.
    """
    opened: dict[str, Runtime] = {}

    async def close() -> None:
        for name in list(opened):
            await opened.pop(name).aclose()

    async def target(name: str) -> Runtime:
        if name not in opened:
            await close()
            opened[name] = await open_runtime(name, pool_memory_bytes=_POOL_BYTES)
        return opened[name]

    yield target
    await close()


@pytest_asyncio.fixture(loop_scope="session")
async def target(runtime_name: str, open_target: Open) -> Runtime:
    """The runtime that the test is to attack."""
    return await open_target(runtime_name)


@pytest.fixture(scope="session")
def known() -> dict[tuple[str, str], Probed]:
    """What was found already, by runtime and family."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def probed(
    runtime_name: str,
    family: str,
    open_target: Open,
    decoys: Decoys,
    known: dict[tuple[str, str], Probed],
) -> Probed:
    """The outcome of all probes of the test's family, which run once on each runtime."""
    if (runtime_name, family) not in known:
        target = await open_target(runtime_name)
        sensible = [probe for probe in PROBES[family] if makes_sense_here(probe)]
        program = Program(family, "", program_of(sensible), anyhow, limits=limits(wall_seconds=200))
        mark = uuid4().hex
        before = HostState.now(mark)
        result = (await launch(target, program, decoys, mark)).result
        assert result.verdict is Verdict.SUCCEEDED, (result.verdict, result.stderr)
        assert decoys.secret not in result.stdout
        damage = await damage_since(before, mark, target) + decoys.reached_listeners()
        known[runtime_name, family] = (read_findings(result.stdout), damage)
    return known[runtime_name, family]
