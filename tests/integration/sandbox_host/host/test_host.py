"""What the host guarantees about jobs and results, as a process on a real bus."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4, uuid5

import pytest

from domain.contracts.job import JOB_TYPE, RESULT_TYPE, Verdict
from sandbox_host.runtimes.bubblewrap.keeper import PREFIX
from tests.support import ROOT
from tests.support.sandbox.bus import (
    TRACE,
    client_of,
    envelope_of,
    processes_with,
    programs_with,
)
from tests.support.sandbox.runtimes import HostProcess, sandbox_job
from tests.support.servicebus.broker import BrokerProcess
from tests.support.waiting import until

StartHost = Callable[..., HostProcess]


async def test_a_result_carries_the_ids_tenant_and_trace_of_its_job(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string)
    job = sandbox_job("print('hello')")
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        message, result = await client.result()
    assert (result.run_id, result.verdict, result.stdout) == (
        job.run_id,
        Verdict.SUCCEEDED,
        "hello\n",
    )
    envelope = envelope_of(message)
    assert message.message_id == envelope.id == str(uuid5(job.run_id, "result"))
    assert message.correlation_id == str(job.intent_id)
    assert (message.subject, message.content_type) == (RESULT_TYPE, "application/cloudevents+json")
    assert (envelope.source, envelope.subject, envelope.tenantid) == (
        "/sandbox-host",
        "the-intent",
        "acme",
    )
    assert envelope.traceparent is not None
    assert envelope.traceparent.split("-")[1] == TRACE.split("-")[1]
    assert envelope.traceparent.split("-")[2] != TRACE.split("-")[2]
    body = await host.wait_until(lambda _, body: body["jobs"]["running"] == 0)
    assert body["jobs"]["finished"] == {"succeeded": 1}
    assert "hello" not in host.log.read_text()


async def test_a_repeated_job_is_answered_again_but_not_run_again(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host_process(sandbox_bus.connection_string)
    job = sandbox_job("import time; print(time.time_ns())")
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        first, result = await client.result()
        await client.send(job)
        second, again = await client.result()
    assert again == result
    assert first.message_id == second.message_id


async def test_a_duplicate_of_a_run_in_progress_is_dropped(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string)
    job = sandbox_job("import time; time.sleep(3); print('once')")
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        await client.send(job)
        _, result = await client.result()
        assert result.stdout == "once\n"
        await client.no_result()
    assert (await host.consuming())["jobs"]["finished"] == {"succeeded": 1}
    assert sandbox_bus.depth("sandbox-jobs")["active"] == 0


async def test_unreadable_messages_are_dead_lettered_with_the_reason(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host_process(sandbox_bus.connection_string)
    async with client_of(sandbox_bus) as client:
        await client.send_raw(b"not json", "1")
        await client.send({"x": 1}, type="something.else")
        await client.send({"language": "python"})
        letters = await client.dead_letters(3)
    assert {reason for reason, _ in letters} == {"InvalidEnvelope", "UnexpectedType", "InvalidJob"}
    descriptions = " ".join(description or "" for _, description in letters)
    assert "data.run_id" in descriptions
    assert JOB_TYPE in descriptions


async def test_an_invalid_job_with_readable_ids_is_answered(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host_process(sandbox_bus.connection_string)
    async with client_of(sandbox_bus) as client:
        await client.send({**sandbox_job("1").model_dump(mode="json"), "entrypoint": "gone.py"})
        _, result = await client.result()
        assert result.verdict is Verdict.INVALID_JOB
        assert result.error is not None
        assert result.error.startswith("data.entrypoint: 'gone.py'")
        await client.send({**sandbox_job("1").model_dump(mode="json"), "language": "cobol"})
        _, result = await client.result()
        assert result.error is not None
        assert result.error.startswith("data.language")
        job = sandbox_job("1", files={"data/" + "ж" * 130: ""}).model_dump(mode="json")
        await client.send(job)
        _, result = await client.result()
        assert result.verdict is Verdict.INVALID_JOB
        assert result.error == (
            f"data.files.1.path: {'ж' * 130!r} takes 260 bytes,"
            " the limit for one name is 255; shorten it"
        )


async def test_a_program_may_run_longer_than_the_lock_of_its_job(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host_process(sandbox_bus.connection_string)
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job("import time; time.sleep(8); print('x')", wall_seconds=20))
        _, result = await client.result()
        assert result.stdout == "x\n"
        await client.no_result(2)
    assert sandbox_bus.depth("sandbox-jobs")["active"] == 0


async def test_a_killed_host_leaves_no_program_and_its_job_is_run_by_the_next(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    marker = f"qlp-orphan-{uuid4()}"
    host = host_process(sandbox_bus.connection_string)
    job = sandbox_job("import time; time.sleep(6); print('done')", args=(marker,), wall_seconds=60)
    async with client_of(sandbox_bus) as client:
        await client.send(job)
        await until(lambda: programs_with(marker))
        host.process.kill()
        await host.ended()
        await until(lambda: not processes_with(marker))
        host_process(sandbox_bus.connection_string)
        _, result = await client.result()
    assert (result.run_id, result.stdout) == (job.run_id, "done\n")


async def test_a_stop_lets_running_programs_finish_and_takes_no_more(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string, QLP_SANDBOX_CONCURRENCY="1")
    marker = f"qlp-drain-{uuid4()}"
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job("import time; time.sleep(6); print('x')", args=(marker,)))
        await until(lambda: programs_with(marker))
        await client.send(sandbox_job("print('later')"))
        host.process.send_signal(signal.SIGTERM)
        _, result = await client.result()
        assert result.stdout == "x\n"
        assert await host.ended() == 0
        await client.no_result()
    assert sandbox_bus.depth("sandbox-jobs")["active"] == 1


async def test_a_program_that_outlasts_the_drain_is_killed_and_its_job_given_back(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string, QLP_SANDBOX_DRAIN_SECONDS="0.5")
    marker = f"qlp-late-{uuid4()}"
    async with client_of(sandbox_bus) as client:
        job = sandbox_job("import time; time.sleep(60)", args=(marker,), wall_seconds=60)
        await client.send(job)
        await until(lambda: programs_with(marker))
        host.process.send_signal(signal.SIGINT)
        assert await host.ended() == 0
        await client.no_result()
    assert not processes_with(marker)
    assert sandbox_bus.depth("sandbox-jobs")["active"] == 1


async def test_a_second_signal_ends_the_host_at_once(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string, QLP_SANDBOX_DRAIN_SECONDS="60")
    marker = f"qlp-second-{uuid4()}"
    async with client_of(sandbox_bus) as client:
        job = sandbox_job("import time; time.sleep(60)", args=(marker,), wall_seconds=60)
        await client.send(job)
        await until(lambda: programs_with(marker))
        host.process.send_signal(signal.SIGTERM)
        await until(lambda: "second signal" in host.log.read_text())
        began = time.monotonic()
        host.process.send_signal(signal.SIGTERM)
        assert await host.ended() == 130
        assert time.monotonic() - began < 20
        await until(lambda: not processes_with(marker))


async def test_a_restarted_bus_is_found_again(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string)
    await host.consuming()
    sandbox_bus.kill()
    await host.wait_until(
        lambda status, body: status == 503 and "Service Bus" in body["detail"], 60
    )
    sandbox_bus.start()
    await host.wait_until(lambda status, _: status == 200, 60)
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job("print('back')"))
        _, result = await client.result()
    assert result.stdout == "back\n"


async def test_without_a_runtime_jobs_wait_and_health_says_why(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(
        sandbox_bus.connection_string,
        QLP_SANDBOX_RUNTIMES="docker",
        DOCKER_HOST="unix:///nonexistent/docker.sock",
    )
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job("1"))
        body = await host.wait_until(lambda _, body: "docker" in body["runtimes"])
        status, _ = await host.health()
        assert status == 503
        assert body["status"] == 503
        assert "jobs wait" in body["detail"]
        assert "DOCKER_HOST" in body["runtimes"]["docker"]["fix"]
        await client.no_result()
    assert sandbox_bus.depth("sandbox-jobs")["active"] == 1


async def test_health_reports_the_runtime_and_its_hardening(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string)
    body = await host.consuming()
    assert (body["status"], body["runtime"]) == ("consuming", "bubblewrap")
    assert body["limits"].startswith(("cgroup", "rlimits"))
    assert body["seccomp"] == "on"
    assert body["bus"]["connected"]


async def test_a_box_waits_for_the_next_job_and_health_shows_it(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string, QLP_SANDBOX_POOL_MEMORY_BYTES=str(32 << 20))
    async with client_of(sandbox_bus) as client:
        for _ in range(3):
            body = await host.wait_until(_has_waiting_boxes)
            await client.send(sandbox_job("print('x')"))
            _, result = await client.result()
            assert (result.stdout, result.warm) == ("x\n", True)
    assert body["pool"]["budget_bytes"] == 32 << 20
    await host.wait_until(_has_waiting_boxes)
    name = f"{PREFIX}{os.stat('/proc/self/ns/pid').st_ino}-{host.process.pid}-"
    assert processes_with(name)
    host.process.kill()
    await host.ended()
    await until(lambda: not processes_with(name))


async def test_no_box_waits_without_memory_for_it(
    sandbox_bus: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(sandbox_bus.connection_string, QLP_SANDBOX_POOL_MEMORY_BYTES="0")
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job("print('x')"))
        _, result = await client.result()
    assert (result.stdout, result.warm) == ("x\n", False)
    _, body = await host.health()
    assert body["pool"]["languages"]["any"]["waiting"] == 0


def _has_waiting_boxes(status: int, body: dict[str, Any]) -> bool:
    return status == 200 and bool(body["pool"]["languages"]["any"]["waiting"])


BUS = "Endpoint=sb://x;SharedAccessKeyName=n;SharedAccessKey=k"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, "set ServiceBusConnection", id="no bus"),
        pytest.param(
            {"ServiceBusConnection": "nonsense"}, "is not a connection string", id="odd bus"
        ),
        pytest.param(
            {"ServiceBusConnection": BUS, "QLP_SANDBOX_RUNTIMES": "podman"},
            "QLP_SANDBOX_RUNTIMES",
            id="unknown runtime",
        ),
        pytest.param(
            {"ServiceBusConnection": BUS, "QLP_SANDBOX_CONCURRENCY": "0"},
            "QLP_SANDBOX_CONCURRENCY",
            id="no concurrency",
        ),
    ],
)
async def test_wrong_settings_are_named(settings: dict[str, str], expected: str) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("QLP_", "ServiceBus"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox_host"),
        cwd=ROOT,
        env={**clean, **settings},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert expected in errors.decode()
