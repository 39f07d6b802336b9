"""What becomes of jobs and boxes when the engine is killed: one of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from domain.contracts.job import Verdict
from sandbox_host.linux.processes import host_tag
from sandbox_host.runtimes.base import RunControl, RuntimeFailure
from sandbox_host.runtimes.containers.workspace import WORKSPACES
from sandbox_host.runtimes.docker.engine import DockerEngine
from sandbox_host.runtimes.docker.runtime import DockerRuntime
from tests.support.sandbox.engine import PrivateEngine
from tests.support.sandbox.runtimes import prepared, run
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def engine(private_engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> PrivateEngine:
    """One that runs and has the image for Python; ``DOCKER_HOST`` names it."""
    monkeypatch.setenv("DOCKER_HOST", private_engine.address)
    return private_engine


def _rooms() -> set[Path]:
    return set((WORKSPACES / host_tag()).glob("*"))


def _python(runtime: DockerRuntime) -> dict[str, int]:
    state: Any = runtime.pool_state()
    return dict(state["languages"]["python"])


async def test_a_killed_engine_leaves_a_run_its_deadline(engine: PrivateEngine) -> None:
    runtime = DockerRuntime()
    assert (await runtime.preflight()).ready
    program = "import time; print('begun', flush=True); time.sleep(60)"
    begun = asyncio.Event()
    control = RunControl(on_output=lambda _name, _data: begun.set())
    running = asyncio.create_task(runtime.run(prepared(program, wall_seconds=4), control))
    await asyncio.wait_for(begun.wait(), 60)
    engine.kill()
    result = (await asyncio.wait_for(running, 60)).result
    assert (result.verdict, result.stdout) == (Verdict.TIMED_OUT, "begun\n")
    await runtime.aclose()


async def test_a_killed_engine_costs_its_jobs_a_retry_and_the_pool_recovers(
    engine: PrivateEngine,
) -> None:
    others = _rooms()  # of a runtime that this process keeps open on another engine
    runtime = DockerRuntime(pool_memory_bytes=256 * 1024**2)
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    assert readiness.languages == ("python",)
    await until(lambda: _python(runtime)["waiting"] > 0)
    job = prepared("import time; time.sleep(60)", wall_seconds=60)
    running = asyncio.create_task(run(runtime, job))
    await until(lambda: _python(runtime)["served"] > 0)
    await until(lambda: _python(runtime)["waiting"] > 0)

    engine.kill()
    # Those that waited end with their streams, and none can be made.
    await until(lambda: _python(runtime)["waiting"] == 0)
    with pytest.raises(RuntimeFailure):
        await run(runtime, prepared("print('no engine')"))

    await asyncio.to_thread(engine.start)  # which ends all that it finds running
    with pytest.raises(RuntimeFailure, match="killed from outside"):
        await asyncio.wait_for(running, 90)
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    await runtime.reap()
    await until(lambda: _python(runtime)["waiting"] > 0)
    result = await run(runtime, prepared("print('back')"))
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "back\n")
    assert result.warm

    await runtime.aclose()
    looking = DockerEngine()
    with contextlib.closing(looking):
        assert await looking.boxes() == {}
    assert _rooms() <= others
