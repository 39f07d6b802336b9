"""Boxes that wait: used once, made to fit their job, replaced when they die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from domain.contracts.job import SandboxResult, Verdict
from sandbox_host.linux.processes import host_tag
from sandbox_host.run.job import PreparedJob
from sandbox_host.runtimes.docker.engine import DockerEngine
from sandbox_host.runtimes.docker.runtime import DockerRuntime
from tests.support.sandbox.runtimes import HUNDRED_PROCESSES, ensure_image, prepared, run
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("needs_root")]

_MIB = 1024**2


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def docker() -> AsyncIterator[DockerRuntime]:
    """A runtime with a pool."""
    await ensure_image()
    runtime = DockerRuntime(pool_memory_bytes=256 * _MIB)
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    yield runtime
    await runtime.aclose()


def _queue(runtime: DockerRuntime, language: str = "python") -> dict[str, int]:
    state: Any = runtime.pool_state()
    return dict(state["languages"][language])


async def _warm(runtime: DockerRuntime, job: PreparedJob) -> SandboxResult:
    """The result of ``job`` in a box that waited for it."""
    await until(lambda: _queue(runtime, job.job.language)["waiting"] > 0)
    result = await run(runtime, job)
    assert result.warm
    return result


async def test_a_waiting_box_runs_one_job_and_is_replaced(docker: DockerRuntime) -> None:
    program = "import os; print(os.path.exists('/box/tmp/mark')); open('/tmp/mark', 'w')"
    served = _queue(docker)["served"]
    for _ in range(3):
        assert (await _warm(docker, prepared(program))).stdout == "False\n"
    assert _queue(docker)["served"] == served + 3


async def test_jobs_beyond_the_waiting_boxes_run_in_new_ones(docker: DockerRuntime) -> None:
    await until(lambda: _queue(docker)["waiting"] > 0)
    count = _queue(docker)["waiting"] + 3
    results = await asyncio.gather(*(run(docker, prepared("print('x')")) for _ in range(count)))
    assert {result.stdout for result in results} == {"x\n"}
    assert {result.warm for result in results} == {True, False}


async def test_a_waiting_box_takes_on_the_jobs_memory_limit(docker: DockerRuntime) -> None:
    program = "block = bytearray(b'x') * (100 << 20); print(len(block))"
    small = await _warm(docker, prepared(program, memory_bytes=64 * _MIB))
    assert small.verdict is Verdict.OUT_OF_MEMORY
    assert small.behaviour.limits_hit == ("memory_bytes",)
    roomy = "block = bytearray(b'x') * (400 << 20); print(len(block))"
    assert (await _warm(docker, prepared(roomy))).verdict is Verdict.OUT_OF_MEMORY
    large = await _warm(docker, prepared(roomy, memory_bytes=600 * _MIB))
    assert large.verdict is Verdict.SUCCEEDED, large.stderr


async def test_a_waiting_box_takes_on_the_jobs_limit_of_processes(docker: DockerRuntime) -> None:
    few = await _warm(docker, prepared(HUNDRED_PROCESSES, processes=20))
    assert few.verdict is Verdict.PROCESS_LIMIT, few.stderr
    assert few.usage is not None
    assert few.usage.peak_processes == 20
    many = await _warm(docker, prepared(HUNDRED_PROCESSES, processes=120))
    assert (many.verdict, many.stdout) == (Verdict.SUCCEEDED, "all\n"), many.stderr


async def test_a_waiting_box_takes_on_the_jobs_disk(docker: DockerRuntime) -> None:
    program = "open('/out/x', 'wb').write(b'x' * (20 << 20)); print('fits')"
    small = await _warm(docker, prepared(program, disk_bytes=8 * _MIB))
    assert small.verdict is Verdict.DISK_LIMIT, small.stderr
    large = await _warm(docker, prepared(program, disk_bytes=96 * _MIB, artifact_bytes=0))
    assert (large.verdict, large.stdout) == (Verdict.SUCCEEDED, "fits\n"), large.stderr
    assert large.usage is not None
    assert large.usage.disk_bytes is not None
    assert 20 * _MIB <= large.usage.disk_bytes < 21 * _MIB


async def test_a_box_that_dies_while_it_waits_is_replaced(
    docker: DockerRuntime, docker_engine: DockerEngine
) -> None:
    await until(lambda: all(_queue(docker, name)["waiting"] for name in ("python", "shell")))
    broken = sum(_queue(docker, name)["broken"] for name in ("python", "shell"))
    for box, host in (await docker_engine.boxes()).items():
        if host == host_tag():
            await docker_engine.kill(box)
    await until(
        lambda: sum(_queue(docker, name)["broken"] for name in ("python", "shell")) >= broken + 2
    )
    assert (await _warm(docker, prepared("print('next')"))).stdout == "next\n"


async def test_no_job_fails_because_its_box_has_just_died(
    docker: DockerRuntime, docker_engine: DockerEngine
) -> None:
    for _ in range(3):
        await until(lambda: _queue(docker)["waiting"] > 0)
        mine = [box for box, host in (await docker_engine.boxes()).items() if host == host_tag()]
        killing = [asyncio.create_task(docker_engine.kill(box)) for box in mine]
        # Sent while the boxes die: to a dead one, a dying one, or a new one.
        running = [run(docker, prepared("print('ok')")) for _ in range(3)]
        for ending in await asyncio.gather(*running, return_exceptions=True):
            # A program that had begun when its box was killed is for the sender to try again.
            if isinstance(ending, BaseException):
                assert str(ending) == "the box was killed from outside"
            else:
                assert (ending.verdict, ending.stdout) == (Verdict.SUCCEEDED, "ok\n")
        await asyncio.gather(*killing)


async def test_boxes_that_are_not_wanted_any_more_are_removed(
    docker_engine: DockerEngine,
) -> None:
    runtime = DockerRuntime(pool_memory_bytes=256 * _MIB)
    assert (await runtime.preflight()).ready
    await until(lambda: all(_queue(runtime, name)["waiting"] for name in ("python", "shell")))
    before = {box for box, host in (await docker_engine.boxes()).items() if host == host_tag()}
    await runtime.aclose()
    after = {box for box, host in (await docker_engine.boxes()).items() if host == host_tag()}
    assert len(before - after) >= 2
