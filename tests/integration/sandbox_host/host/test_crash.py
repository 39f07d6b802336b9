"""SIGKILL to the host or to its engine in the middle of a run: one outcome, nothing left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from domain.contracts.job import Verdict
from sandbox_host.runtimes.docker.settings import HOST_LABEL
from tests.support.sandbox.bus import client_of, processes_with, programs_with
from tests.support.sandbox.engine import PrivateEngine
from tests.support.sandbox.runtimes import (
    BUBBLEWRAP,
    CONFINED,
    DOCKER,
    OCI,
    HostProcess,
    ensure_image,
    groups_with,
    on_runtime,
    sandbox_job,
)
from tests.support.servicebus.broker import BrokerProcess
from tests.support.waiting import until

StartHost = Callable[..., HostProcess]


def left_of(pid: int) -> list[str]:
    """Containers, mounts and cgroups that bear the tag of the host ``pid``."""
    tag = f"-{pid}-"
    listing = ["docker", "ps", "--all", "--format", f'{{{{.ID}}}} {{{{.Label "{HOST_LABEL}"}}}}']
    boxes = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
    mounts = Path("/proc/self/mountinfo").read_text()
    return [
        *(line for line in boxes.splitlines() if tag in line),
        *(line for line in mounts.splitlines() if "qlp" in line and tag in line),
        *groups_with(f"qlp-.*{tag}"),
        *(str(path) for path in Path("/run/qlp-oci").glob("*/*") if tag in path.name),
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runtime", [*map(on_runtime, (OCI, DOCKER, BUBBLEWRAP, CONFINED))])
async def test_the_next_host_finishes_what_a_killed_one_had_begun_and_removes_its_leftovers(
    sandbox_bus: BrokerProcess, host_process: StartHost, runtime: str
) -> None:
    if runtime in (DOCKER, OCI):
        await ensure_image()
    first = host_process(sandbox_bus.connection_string, QLP_SANDBOX_RUNTIMES=runtime)
    marker = f"qlp-crash-{uuid4()}"
    job = sandbox_job("import time; time.sleep(6); print('done')", args=(marker,), wall_seconds=60)
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        await until(lambda: programs_with(marker), 60)
        first.process.kill()
        await first.ended()
        second = host_process(sandbox_bus.connection_string, QLP_SANDBOX_RUNTIMES=runtime)
        _, result = await client.result(60)
        await client.no_result()
    assert (result.run_id, result.stdout) == (job.run_id, "done\n")
    await until(lambda: not processes_with(marker))
    await until(lambda: not left_of(first.process.pid))
    second.process.send_signal(signal.SIGTERM)
    assert await second.ended(60) == 0
    await until(lambda: not left_of(second.process.pid))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.docker
async def test_a_killed_engine_costs_a_run_not_the_host(
    sandbox_bus: BrokerProcess, host_process: StartHost, private_engine: PrivateEngine
) -> None:
    host = host_process(
        sandbox_bus.connection_string,
        QLP_SANDBOX_RUNTIMES="docker",
        DOCKER_HOST=private_engine.address,
    )
    marker = f"qlp-engine-{uuid4()}"
    job = sandbox_job("import time; time.sleep(90)", args=(marker,), wall_seconds=8)
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        await until(lambda: programs_with(marker), 60)
        private_engine.kill()
        _, result = await client.result(60)
        # Where the host could not end it without the engine, the application tries it again.
        assert result.run_id == job.run_id
        assert result.verdict in (Verdict.TIMED_OUT, Verdict.INFRASTRUCTURE_ERROR)
        body = await host.wait_until(lambda status, _: status == 503, 60)
        assert "no runtime is ready" in body["detail"]
        await client.send(sandbox_job("print('waited')"))
        await client.no_result()
        await asyncio.to_thread(private_engine.start)
        _, result = await client.result(90)
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "waited\n")
    await until(lambda: not processes_with(marker))
    host.process.send_signal(signal.SIGTERM)
    assert await host.ended(60) == 0
    assert private_engine.boxes() == []
