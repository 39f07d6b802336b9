"""What becomes of a job whose runtime refuses it, fails, or is no longer there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import pytest

from domain.contracts.job import JobInput, SandboxJob, SandboxResult, Verdict
from sandbox_host.host.admission import MemoryBudget
from sandbox_host.host.heartbeat import HeartbeatClient
from sandbox_host.host.inputs import InputFetcher
from sandbox_host.host.job_runner import NotNow, Runner
from sandbox_host.host.status import HostStatus
from sandbox_host.host.supervisor import Supervisor
from sandbox_host.host.uploads import Uploader
from sandbox_host.run.job import InvalidJob, PreparedJob
from sandbox_host.runtimes.base import Readiness, RunControl, RunResult, RuntimeFailure
from tests.support.sandbox.application import AppServer
from tests.support.sandbox.runtimes import prepared
from tests.support.waiting import until

MIB = 1024**2

Work = Callable[[PreparedJob], RunResult]


def succeeded(job: PreparedJob) -> RunResult:
    ids = {"run_id": job.job.run_id, "intent_id": job.job.intent_id}
    return RunResult(SandboxResult.model_validate({**ids, "verdict": Verdict.SUCCEEDED}))


def raising(error: Exception) -> Work:
    def work(job: PreparedJob) -> RunResult:
        raise error

    return work


class ToldRuntime:
    """Does with jobs what its ``work`` says."""

    name = "told"

    def __init__(self, work: Work = succeeded, *, local: bool = True) -> None:
        self.work = work
        self.local = local
        self.preflights = 0
        self.runs = 0

    async def preflight(self) -> Readiness:
        self.preflights += 1
        return Readiness(True, "as told", local=self.local)

    async def run(self, job: PreparedJob, control: RunControl | None = None) -> RunResult:
        self.runs += 1
        return self.work(job)

    async def reap(self) -> int:
        return 0

    async def aclose(self) -> None:
        return None


@asynccontextmanager
async def runner_of(
    runtime: ToldRuntime,
    memory: int = 1024 * MIB,
    heartbeat: HeartbeatClient | None = None,
    app_url: str | None = None,
) -> AsyncIterator[Runner]:
    supervisor = Supervisor([runtime])
    watching = asyncio.create_task(supervisor.watch())
    await asyncio.wait_for(supervisor.available(), 10)
    budget = MemoryBudget(memory)
    transfers = InputFetcher(app_url), Uploader(app_url)
    yield Runner(supervisor, budget, heartbeat, *transfers, HostStatus())
    assert budget.reserved == 0
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_what_a_runtime_can_never_run_is_an_invalid_job_and_no_suspicion() -> None:
    runtime = ToldRuntime(raising(InvalidJob("language: told to refuse")))
    async with runner_of(runtime) as runner:
        result = await runner.run(prepared("1"))
        await asyncio.sleep(0)
    assert (result.verdict, result.error) == (
        Verdict.INVALID_JOB,
        "data.language: told to refuse",
    )
    assert runtime.preflights == 1


async def test_a_runtime_that_fails_is_suspected_and_the_run_may_be_tried_again() -> None:
    runtime = ToldRuntime(raising(RuntimeFailure("told to fail")))
    async with runner_of(runtime) as runner:
        result = await runner.run(prepared("1"))
        await until(lambda: runtime.preflights == 2)
    assert (result.verdict, result.error) == (
        Verdict.INFRASTRUCTURE_ERROR,
        "told: told to fail",
    )


async def test_without_a_runtime_a_job_is_for_another_host() -> None:
    transfers = InputFetcher(None), Uploader(None)
    runner = Runner(Supervisor([]), MemoryBudget(MIB), None, *transfers, HostStatus())
    with pytest.raises(NotNow):
        await runner.run(prepared("1"))


async def test_memory_of_this_host_is_asked_for_only_where_programs_use_it() -> None:
    large = prepared("1", memory_bytes=512 * MIB)
    async with runner_of(ToldRuntime(), memory=256 * MIB) as runner:
        assert (await runner.run(large)).verdict is Verdict.INVALID_JOB
    async with runner_of(ToldRuntime(local=False), memory=256 * MIB) as runner:
        assert (await runner.run(large)).verdict is Verdict.SUCCEEDED


class KillAtOnce(HeartbeatClient):
    """An application that wants nothing to run."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "host")

    @contextmanager
    def following(self, job: SandboxJob, control: RunControl) -> Iterator[None]:
        control.kill.set()
        yield


async def test_a_job_that_is_killed_before_it_has_memory_never_starts() -> None:
    runtime = ToldRuntime()
    async with runner_of(runtime, heartbeat=KillAtOnce()) as runner:
        result = await runner.run(prepared("1"))
    assert (result.verdict, runtime.runs) == (Verdict.KILLED_BY_OPERATOR, 0)


class Killing(HeartbeatClient):
    """An application that changes its mind about what runs."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "host")
        self.control = RunControl()

    @contextmanager
    def following(self, job: SandboxJob, control: RunControl) -> Iterator[None]:
        self.control = control
        yield


async def test_a_job_that_is_killed_while_its_inputs_are_fetched_never_starts(
    app_server: AppServer,
) -> None:
    app_server.seconds = 60
    runtime = ToldRuntime()
    wanted = JobInput(path="inputs/a/b", size=1, sha256="0" * 64)
    one = prepared("1")
    one = replace(one, job=one.job.model_copy(update={"inputs": (wanted,), "token": "t"}))
    heartbeat = Killing()
    async with runner_of(runtime, heartbeat=heartbeat, app_url=app_server.url) as runner:
        running = asyncio.create_task(runner.run(one))
        await app_server.until(lambda: app_server.requests)
        heartbeat.control.kill.set()
        async with asyncio.timeout(30):
            result = await running
    assert (result.verdict, runtime.runs) == (Verdict.KILLED_BY_OPERATOR, 0)
