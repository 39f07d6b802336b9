"""The first runtime whose canary passes is used; one that fails it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sandbox_host.host.supervisor import Supervisor
from sandbox_host.net.backoff import Backoff
from sandbox_host.run.job import PreparedJob
from sandbox_host.runtimes.base import Readiness, RunControl, RunResult
from tests.support.waiting import until


class FakeRuntime:
    """Ready when told so."""

    def __init__(self, name: str, ready: bool) -> None:
        self.name = name
        self.ready = ready
        self.reaped = 0
        self.preflights = 0

    async def preflight(self) -> Readiness:
        self.preflights += 1
        return Readiness(self.ready, "as told", "" if self.ready else "tell it otherwise")

    async def run(self, job: PreparedJob, control: RunControl | None = None) -> RunResult:
        raise AssertionError("the supervisor runs no jobs")

    async def reap(self) -> int:
        self.reaped += 1
        return 0

    async def aclose(self) -> None:
        return None


@asynccontextmanager
async def watched(
    *runtimes: FakeRuntime, canary_seconds: float = 300.0
) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(runtimes, retry_seconds=0.01, canary_seconds=canary_seconds)
    task = asyncio.create_task(supervisor.watch())
    yield supervisor
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_first_ready_runtime_is_used_after_all_have_been_reaped() -> None:
    first, second = FakeRuntime("first", False), FakeRuntime("second", True)
    async with watched(first, second) as supervisor:
        assert await asyncio.wait_for(supervisor.available(), 10) is second
    assert (first.reaped, second.reaped) == (1, 1)
    assert supervisor.readiness["first"].fix == "tell it otherwise"


async def test_a_runtime_that_comes_up_later_is_found() -> None:
    late = FakeRuntime("late", False)
    async with watched(late) as supervisor:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(supervisor.available(), 0.05)
        late.ready = True
        assert await asyncio.wait_for(supervisor.available(), 10) is late


class FakePool(FakeRuntime):
    """Keeps boxes, and may fail to make one."""

    suspect: Callable[[], None]

    def pool_state(self) -> dict[str, object]:
        return {}

    def tell_of_trouble(self, suspect: Callable[[], None]) -> None:
        self.suspect = suspect


async def test_a_runtime_that_cannot_make_boxes_ahead_is_checked_before_a_job_finds_out() -> None:
    first, second = FakePool("first", True), FakeRuntime("second", True)
    async with watched(first, second) as supervisor:
        await asyncio.wait_for(supervisor.available(), 10)
        first.ready = False
        first.suspect()
        await until(lambda: supervisor.runtime is second)


async def test_leftovers_of_a_runtime_that_is_in_use_are_tried_again() -> None:
    runtime = FakeRuntime("only", True)
    async with watched(runtime) as supervisor:
        await asyncio.wait_for(supervisor.available(), 10)
        assert runtime.reaped == 1
        supervisor.suspect()
        await until(lambda: runtime.reaped > 1)
    assert supervisor.runtime is runtime


async def test_a_suspected_runtime_that_fails_its_canary_is_replaced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = FakeRuntime("first", True), FakeRuntime("second", True)
    async with watched(first, second) as supervisor:
        await asyncio.wait_for(supervisor.available(), 10)
        first.ready = False
        supervisor.suspect()
        await until(lambda: supervisor.runtime is second)
    assert not supervisor.readiness["first"].ready
    [event] = [record for record in caplog.records if record.name == "sandbox_host.security"]
    assert vars(event)["fields"]["security_event"] == "canary_failed"


async def test_the_canary_of_an_idle_runtime_is_repeated() -> None:
    runtime = FakeRuntime("only", True)
    async with watched(runtime, canary_seconds=0.02) as supervisor:
        await asyncio.wait_for(supervisor.available(), 10)
        runtime.ready = False
        await until(lambda: supervisor.runtime is None)
    assert supervisor.proof_age is None


async def test_a_runtime_that_runs_jobs_needs_no_canary() -> None:
    runtime = FakeRuntime("only", True)
    async with watched(runtime, canary_seconds=0.2) as supervisor:
        await asyncio.wait_for(supervisor.available(), 10)
        for _ in range(10):
            await asyncio.sleep(0.05)
            supervisor.proved()
        assert runtime.preflights == 1
        assert supervisor.proof_age is not None
        assert supervisor.proof_age < 0.2


def test_pauses_grow_to_a_ceiling_vary_and_start_over() -> None:
    backoff = Backoff(first=1.0, ceiling=8.0)
    pauses = [backoff.next() for _ in range(50)]
    assert all(0.1 <= pause <= 8.0 for pause in pauses)
    assert max(pauses[10:]) > 2.0
    assert len(set(pauses)) > 40
    backoff.reset()
    assert backoff.next() <= 1.0
