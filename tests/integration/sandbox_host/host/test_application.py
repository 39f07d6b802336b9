"""The host, a real bus and the application over HTTP: kills, live output, artifacts, admission."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any
from uuid import uuid4

from domain.contracts.heartbeat import Order
from domain.contracts.job import SandboxJob, Verdict
from tests.support.sandbox.application import AppServer
from tests.support.sandbox.bus import client_of, processes_with, programs_with
from tests.support.sandbox.runtimes import HostProcess, sandbox_job
from tests.support.servicebus.broker import BrokerProcess
from tests.support.waiting import until

StartHost = Callable[..., HostProcess]

MIB = 1024**2
SLEEPER = "import time; time.sleep(200)"


def watched(job: SandboxJob) -> SandboxJob:
    """``job`` with a token, so that the application hears of it."""
    return job.model_copy(update={"token": f"token-{job.run_id}"})


def started(
    start: StartHost, broker: BrokerProcess, app: AppServer, **settings: str
) -> HostProcess:
    return start(broker.connection_string, QLP_SANDBOX_APP_URL=app.url, **settings)


async def test_a_program_is_killed_soon_after_the_order(
    sandbox_bus: BrokerProcess, host_process: StartHost, app_server: AppServer
) -> None:
    """Within a second, where the machine is idle; the bound is for a busy one."""
    started(host_process, sandbox_bus, app_server)
    marker = f"qlp-kill-{uuid4()}"
    job = watched(sandbox_job(SLEEPER, args=(marker,), wall_seconds=60))
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        await app_server.until(lambda: app_server.beats)
        await until(lambda: programs_with(marker))
        app_server.orders[job.run_id] = Order.KILL
        began = time.monotonic()
        await until(lambda: not processes_with(marker))
        assert time.monotonic() - began < 20
        _, result = await client.result()
    assert (result.verdict, result.run_id) == (Verdict.KILLED_BY_OPERATOR, job.run_id)


async def test_output_is_seen_while_the_program_runs(
    sandbox_bus: BrokerProcess, host_process: StartHost, app_server: AppServer
) -> None:
    started(host_process, sandbox_bus, app_server)
    program = "import time\nfor n in range(80): print('line', n); time.sleep(0.1)"
    job = watched(sandbox_job(program))
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        await app_server.until(lambda: "line 3\n" in app_server.text(job.run_id))
        assert "line 79" not in app_server.text(job.run_id)
        _, result = await client.result()
    assert result.stdout.startswith(app_server.text(job.run_id))


async def test_large_artifacts_are_there_before_the_result(
    sandbox_bus: BrokerProcess, host_process: StartHost, app_server: AppServer
) -> None:
    started(host_process, sandbox_bus, app_server)
    program = (
        "import os\n"
        "out = os.environ['OUT_DIR']\n"
        "open(f'{out}/large', 'wb').write(b'x' * 1_000_000)\n"
        "open(f'{out}/small', 'wb').write(b'y')\n"
    )
    job = watched(sandbox_job(program))
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        _, result = await client.result()
        uploaded = dict(app_server.uploads)
    large, small = result.artifacts
    assert (large.name, large.content, small.content) == ("large", None, "eQ==")
    assert uploaded[large.sha256].content == b"x" * 1_000_000
    assert uploaded[large.sha256].token == job.token


async def test_an_application_that_is_away_harms_no_run_and_shows_in_health(
    sandbox_bus: BrokerProcess, host_process: StartHost, app_server: AppServer
) -> None:
    host = started(host_process, sandbox_bus, app_server)
    await app_server.stop()
    async with client_of(sandbox_bus) as client:
        await client.send(watched(sandbox_job("import time; time.sleep(3); print('done')")))
        body = await host.wait_until(lambda _, body: body["heartbeat"]["status"] == "degraded")
        assert body["status"] == "consuming"
        assert "Cannot connect" in body["heartbeat"]["problem"]
        _, result = await client.result()
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "done\n")


async def test_a_refused_token_is_a_security_event_in_the_log(
    sandbox_bus: BrokerProcess, host_process: StartHost, app_server: AppServer
) -> None:
    host = started(host_process, sandbox_bus, app_server)
    job = watched(sandbox_job("import time; time.sleep(3)"))
    app_server.orders[job.run_id] = Order.REFUSED
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        await client.result()
    [event] = [line for line in log_of(host) if line.get("security_event")]
    assert (event["security_event"], event["run_id"]) == ("token_refused", str(job.run_id))
    assert job.token is not None
    assert job.token not in host.log.read_text()


def log_of(host: HostProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.log.read_text().rpartition("\n")[0].splitlines()]


def ends_of_runs(host: HostProcess) -> list[dict[str, Any]]:
    return [line for line in log_of(host) if line.get("event") == "run_ended"]


async def test_every_run_has_a_line_with_its_verdict_and_usage_but_not_its_output(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string)
    job = sandbox_job("print('secret'); import time; time.sleep(9)", wall_seconds=0.5)
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        await client.result()
        await client.send(
            {**job.model_dump(mode="json"), "entrypoint": "gone", "run_id": str(uuid4())}
        )
        await client.result()
    # A job that is refused is answered before that is logged.
    await until(lambda: len(ends_of_runs(host)) >= 2)
    first, second = ends_of_runs(host)
    assert (first["run_id"], first["verdict"]) == (str(job.run_id), "timed_out")
    assert first["usage"]["wall_ms"] >= 500
    assert first["behaviour"]["limits_hit"] == ["wall_seconds"]
    assert second["verdict"] == "invalid_job"
    assert "secret" not in host.log.read_text()


async def test_a_job_waits_for_memory_longer_than_its_lock_and_runs_once(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string, QLP_SANDBOX_MEMORY_BYTES=str(600 * MIB))
    program = "import time; time.sleep(10); print('x')"
    jobs = [sandbox_job(program, memory_bytes=310 * MIB) for _ in range(2)]
    async with client_of(sandbox_bus) as client:
        for job in jobs:
            await client.send(job)
        body = await host.wait_until(lambda _, body: body["memory"]["jobsWaiting"] == 1)
        assert body["memory"]["reservedBytes"] == 310 * MIB
        assert body["jobs"]["running"] == 1
        results = [(await client.result())[1] for _ in jobs]
        await client.no_result()
    assert {result.run_id for result in results} == {job.run_id for job in jobs}
    assert [result.stdout for result in results] == ["x\n"] * 2
    assert (results[1].queued_ms or 0) > 5000
    assert sandbox_bus.depth("sandbox-jobs")["active"] == 0


async def test_while_a_job_waits_for_memory_the_rest_is_left_to_other_hosts(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(
        sandbox_bus.connection_string,
        QLP_SANDBOX_MEMORY_BYTES=str(600 * MIB),
        QLP_SANDBOX_CONCURRENCY="3",
    )
    marker = f"qlp-hoard-{uuid4()}"
    large: dict[str, Any] = {"memory_bytes": 310 * MIB, "wall_seconds": 200}
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job(SLEEPER, args=(marker,), **large))
        await until(lambda: programs_with(marker))
        await client.send(sandbox_job(SLEEPER, args=(marker,), **large))
        await host.wait_until(lambda _, body: body["memory"]["jobsWaiting"] == 1)
        # The third worker may have asked for a job before the second was found to be too large.
        for _ in range(3):
            await client.send(sandbox_job("print('small')", memory_bytes=16 * MIB))
        other = host_process(sandbox_bus.connection_string, QLP_SANDBOX_CONCURRENCY="1")
        results = [(await client.result())[1].stdout for _ in range(2)]
        assert results == ["small\n"] * 2
        body = await other.wait_until(lambda _, body: not body["jobs"]["running"])
        assert body["jobs"]["finished"]["succeeded"] >= 2


async def test_a_job_that_can_never_fit_is_refused_with_the_ceiling(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host_process(sandbox_bus.connection_string, QLP_SANDBOX_MEMORY_BYTES=str(100 * MIB))
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job("1", memory_bytes=101 * MIB))
        _, result = await client.result()
    assert result.verdict is Verdict.INVALID_JOB
    assert result.error is not None
    assert result.error.startswith("data.limits.memory_bytes")
    assert str(100 * MIB) in result.error


async def test_health_answers_at_once_while_programs_flood_the_host(
    sandbox_bus: BrokerProcess, host_process: StartHost, app_server: AppServer
) -> None:
    host = started(host_process, sandbox_bus, app_server)
    flood = "import time\nfor _ in range(60): print('x' * 200_000, flush=True); time.sleep(0.05)"
    async with client_of(sandbox_bus) as client:
        for _ in range(2):
            await client.send(watched(sandbox_job(flood)))
        await host.wait_until(lambda _, body: body["jobs"]["running"] == 2)
        taken = []
        for _ in range(20):
            began = time.perf_counter()
            await host.health()
            taken.append(time.perf_counter() - began)
        for _ in range(2):
            await client.result()
    assert median(taken) < 1, taken


async def test_health_says_what_runs_here_and_how(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string)
    body = await host.consuming()
    assert {"python", "shell"} <= set(body["languages"])
    assert body["isolation"]
    assert body["heartbeat"] == {"status": "off"}
    assert body["memory"]["budgetBytes"] > 256 * MIB
    assert 0 <= body["provedSecondsAgo"] < 60
