"""The same contract with whatever this host may do beside its engine: three ways, best first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from domain.contracts.job import Verdict
from sandbox_host.linux.processes import host_tag
from sandbox_host.run import job as jobs
from sandbox_host.runtimes.containers import runtime as docker_module
from sandbox_host.runtimes.containers.capabilities import HostCapabilities, candidates
from sandbox_host.runtimes.docker.engine import DockerEngine
from sandbox_host.runtimes.docker.runtime import DockerRuntime
from tests.support.sandbox.runtimes import ensure_image, prepared, run

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("needs_root")]

#: By runtime, boxes that were there before it: those of others that this process keeps open.
_OTHERS: dict[DockerRuntime, set[str]] = {}

_WAYS = ("pipes and rooms", "rooms", "neither")


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=range(len(_WAYS)), ids=_WAYS)
async def docker(request: pytest.FixtureRequest) -> AsyncIterator[DockerRuntime]:
    """A runtime with a pool that knows only one of the ways."""
    await ensure_image()
    others = await _boxes()

    def only_one(*arguments: Any) -> list[HostCapabilities]:
        ways = candidates(*arguments)
        assert len(ways) == len(_WAYS)
        return [ways[request.param]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker_module, "candidates", only_one)
        runtime = DockerRuntime(pool_memory_bytes=256 * 1024**2)
        readiness = await runtime.preflight()
        assert readiness.ready, readiness.reason
        _OTHERS[runtime] = others
        yield runtime
        await runtime.aclose()


async def _has_rooms(runtime: DockerRuntime) -> bool:
    return (await runtime.preflight()).details["artifacts"].startswith("collected")


async def test_names_that_only_the_kernel_refuses_are_the_jobs_own_fault(
    docker: DockerRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_NAME_BYTES", 10_000)
    with pytest.raises(jobs.InvalidJob, match=r"^files: File name too long; shorten"):
        await docker.run(prepared("1", files={"ж" * 130: ""}))


async def test_files_stdin_output_and_status_are_the_same(docker: DockerRuntime) -> None:
    program = (
        "import sys, lib.util\n"
        "print(lib.util.VALUE, sys.stdin.read(), sys.argv[1:])\n"
        "print('err', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    files = {"lib/util.py": "VALUE = 42"}
    result = await run(docker, prepared(program, files=files, stdin="in", args=("a", "é")))
    assert (result.verdict, result.exit_code) == (Verdict.EXITED, 7)
    assert (result.stdout, result.stderr) == ("42 in ['a', 'é']\n", "err\n")


async def test_output_begins_with_what_the_program_printed(docker: DockerRuntime) -> None:
    # Elsewhere the agent's marks come before it on the same stream.
    for text in ("", "R", "S", "RS", "\0"):
        result = await run(docker, prepared(f"import sys; sys.stdout.write({text!r})"))
        assert result.stdout == text.replace("\0", "\N{REPLACEMENT CHARACTER}")


async def test_jobs_with_limits_of_their_own_have_them(docker: DockerRuntime) -> None:
    program = "block = bytearray(b'x') * (100 << 20); print(len(block))"
    small = await run(docker, prepared(program, memory_bytes=48 * 1024**2))
    assert small.verdict is Verdict.OUT_OF_MEMORY
    assert (await run(docker, prepared(program))).verdict is Verdict.SUCCEEDED


async def test_a_program_is_killed_at_its_deadline(docker: DockerRuntime) -> None:
    program = "print('x', flush=True)\nwhile True: pass"
    result = await run(docker, prepared(program, wall_seconds=4))
    assert (result.verdict, result.stdout) == (Verdict.TIMED_OUT, "x\n")


async def test_a_cancelled_run_leaves_no_box(docker: DockerRuntime) -> None:
    running = asyncio.create_task(run(docker, prepared("import time; time.sleep(60)")))
    await asyncio.sleep(0.3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await run(docker, prepared("print('next')"))).stdout == "next\n"
    async with asyncio.timeout(60):
        # In the end there are the boxes that wait, and no others of this runtime.
        while len(await _boxes() - _OTHERS[docker]) != _waiting(docker):
            await asyncio.sleep(0.1)


async def _boxes() -> set[str]:
    """Boxes of all runtimes that this process has open."""
    with contextlib.closing(DockerEngine()) as engine:
        return {box for box, host in (await engine.boxes()).items() if host == host_tag()}


def _waiting(runtime: DockerRuntime) -> int:
    state: Any = runtime.pool_state()
    return sum(shelf["waiting"] for shelf in state["languages"].values())


async def test_artifacts_are_collected_or_health_says_that_they_are_not(
    docker: DockerRuntime,
) -> None:
    result = await run(docker, prepared("open('/out/a', 'w').write('x')"))
    assert result.verdict is Verdict.SUCCEEDED
    rooms = await _has_rooms(docker)
    assert [artifact.name for artifact in result.artifacts] == (["a"] if rooms else [])
    said = [(one.name, one.reason) for one in result.skipped_artifacts]
    told = (await docker.preflight()).details["artifacts"]
    assert said == ([] if rooms else [(".", told)])


async def test_default_limits_find_a_waiting_box(docker: DockerRuntime) -> None:
    async with asyncio.timeout(60):
        while not (await run(docker, prepared("print(1)"))).warm:
            await asyncio.sleep(0.3)
