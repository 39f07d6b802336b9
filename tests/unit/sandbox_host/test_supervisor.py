"""The first runtime whose canary passes is used, and none is used that fails one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from domain.sandbox.contract import SandboxResult
from sandbox_host.bus import Backoff
from sandbox_host.jobs import PreparedJob
from sandbox_host.runtimes.base import Readiness
from sandbox_host.supervisor import Supervisor


class FakeRuntime:
    """Ready when told so."""

    def __init__(self, name: str, ready: bool) -> None:
        self.name = name
        self.ready = ready
        self.reaped = 0

    async def preflight(self) -> Readiness:
        return Readiness(self.ready, "as told", "" if self.ready else "tell it otherwise")

    async def run(self, job: PreparedJob) -> SandboxResult:
        raise AssertionError("the supervisor runs no jobs")

    async def reap(self) -> int:
        self.reaped += 1
        return 0

    async def aclose(self) -> None:
        return None


@asynccontextmanager
async def watched(*runtimes: FakeRuntime) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(runtimes, retry_seconds=0.01)
    task = asyncio.create_task(supervisor.watch())
    yield supervisor
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_first_ready_runtime_is_used_and_reaped_first() -> None:
    first, second = FakeRuntime("first", False), FakeRuntime("second", True)
    async with watched(first, second) as supervisor:
        assert await asyncio.wait_for(supervisor.available(), 1) is second
    assert (first.reaped, second.reaped) == (0, 1)
    assert supervisor.readiness["first"].fix == "tell it otherwise"


async def test_a_runtime_that_comes_up_later_is_found() -> None:
    late = FakeRuntime("late", False)
    async with watched(late) as supervisor:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(supervisor.available(), 0.05)
        late.ready = True
        assert await asyncio.wait_for(supervisor.available(), 1) is late


async def test_a_suspected_runtime_that_fails_its_canary_is_replaced() -> None:
    first, second = FakeRuntime("first", True), FakeRuntime("second", True)
    async with watched(first, second) as supervisor:
        await asyncio.wait_for(supervisor.available(), 1)
        first.ready = False
        supervisor.suspect()
        async with asyncio.timeout(1):
            while supervisor.runtime is not second:
                await asyncio.sleep(0)
    assert not supervisor.readiness["first"].ready


def test_pauses_grow_to_a_ceiling_vary_and_start_over() -> None:
    backoff = Backoff(first=1.0, ceiling=8.0)
    pauses = [backoff.next() for _ in range(50)]
    assert all(0.1 <= pause <= 8.0 for pause in pauses)
    assert max(pauses[10:]) > 2.0
    assert len(set(pauses)) > 40
    backoff.reset()
    assert backoff.next() <= 1.0
