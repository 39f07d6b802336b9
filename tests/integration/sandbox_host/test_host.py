"""What the host guarantees about jobs and results, as a process on a real bus."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4, uuid5

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient

from domain.messaging.envelope import Envelope
from domain.sandbox.contract import JOB_TYPE, RESULT_TYPE, SandboxJob, SandboxResult, Verdict
from tests.fixtures.sandbox import HostProcess, sandbox_job
from tests.fixtures.servicebus import BrokerProcess

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

StartHost = Callable[..., HostProcess]
StartBroker = Callable[..., BrokerProcess]


class Client:
    """Sends jobs and takes results."""

    def __init__(self, client: ServiceBusClient) -> None:
        self._client = client
        self._sender = client.get_queue_sender("sandbox-jobs")
        self._receiver = client.get_queue_receiver("sandbox-results")

    async def send(self, job: SandboxJob | dict[str, Any], **envelope: Any) -> None:
        data = job if isinstance(job, dict) else job.model_dump(mode="json")
        fields: dict[str, Any] = {
            "id": str(uuid4()),
            "source": "/test",
            "type": JOB_TYPE,
            "subject": "the-intent",
            "tenantid": "acme",
            "traceparent": TRACE,
            "data": data,
            **envelope,
        }
        await self.send_raw(Envelope(**fields).encode(), str(data.get("run_id")))

    async def send_raw(self, body: bytes, message_id: str) -> None:
        await self._sender.send_messages(ServiceBusMessage(body, message_id=message_id))

    async def result(self, seconds: float = 20) -> tuple[ServiceBusReceivedMessage, SandboxResult]:
        messages = await self._receiver.receive_messages(1, max_wait_time=seconds)
        assert messages, f"no result in {seconds} s"
        await self._receiver.complete_message(messages[0])
        return messages[0], SandboxResult.model_validate(envelope_of(messages[0]).data)

    async def no_result(self, seconds: float = 1) -> None:
        assert not await self._receiver.receive_messages(1, max_wait_time=seconds)

    async def dead_letters(self, count: int) -> list[tuple[str | None, str | None]]:
        receiver = self._client.get_queue_receiver(
            "sandbox-jobs", sub_queue=ServiceBusSubQueue.DEAD_LETTER
        )
        async with receiver:
            found: list[tuple[str | None, str | None]] = []
            while len(found) < count:
                messages = await receiver.receive_messages(count, max_wait_time=10)
                assert messages, found
                for message in messages:
                    found.append(
                        (message.dead_letter_reason, message.dead_letter_error_description)
                    )
                    await receiver.complete_message(message)
            return found


def envelope_of(message: ServiceBusReceivedMessage) -> Envelope:
    return Envelope.decode(b"".join(message.body))


@asynccontextmanager
async def client_of(broker: BrokerProcess) -> AsyncIterator[Client]:
    async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        yield Client(client)


@pytest.fixture
def broker(broker_process: StartBroker, tmp_path: Path) -> BrokerProcess:
    """A bus whose locks last five seconds, so that redelivery can be waited for."""
    queues = [
        {"Name": name, "Properties": {"LockDuration": "PT5S", "MaxDeliveryCount": 10}}
        for name in ("sandbox-jobs", "sandbox-results")
    ]
    config = tmp_path / "bus.json"
    config.write_text(
        json.dumps({"UserConfig": {"Namespaces": [{"Name": "test", "Queues": queues}]}})
    )
    return broker_process(config)


def processes_with(marker: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def programs_with(marker: str) -> list[int]:
    """Only the program itself: its box stands, and with it what ends it when the host dies.

    While bwrap still sets a box up, its PID 1 has not asked for the parent-death signal yet; what
    a crash leaves behind in those milliseconds is reaped at the next start.
    """
    return [
        pid
        for pid in processes_with(marker)
        if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    ]


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_result_carries_the_ids_tenant_and_trace_of_its_job(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(broker.connection_string)
    job = sandbox_job("print('hello')")
    async with client_of(broker) as client:
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
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host_process(broker.connection_string)
    job = sandbox_job("import time; print(time.time_ns())")
    async with client_of(broker) as client:
        await client.send(job)
        first, result = await client.result()
        await client.send(job)
        second, again = await client.result()
    assert again == result
    assert first.message_id == second.message_id


async def test_a_duplicate_of_a_run_in_progress_is_dropped(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(broker.connection_string)
    job = sandbox_job("import time; time.sleep(1.5); print('once')")
    async with client_of(broker) as client:
        await client.send(job)
        await client.send(job)
        _, result = await client.result()
        assert result.stdout == "once\n"
        await client.no_result()
    assert (await host.consuming())["jobs"]["finished"] == {"succeeded": 1}
    assert broker.depth("sandbox-jobs")["active"] == 0


async def test_unreadable_messages_are_dead_lettered_with_the_reason(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host_process(broker.connection_string)
    async with client_of(broker) as client:
        await client.send_raw(b"not json", "1")
        await client.send({"x": 1}, type="something.else")
        await client.send({"language": "python"})
        letters = await client.dead_letters(3)
    assert {reason for reason, _ in letters} == {"InvalidEnvelope", "UnexpectedType", "InvalidJob"}
    descriptions = " ".join(description or "" for _, description in letters)
    assert "data.run_id" in descriptions
    assert JOB_TYPE in descriptions


async def test_an_invalid_job_with_readable_ids_is_answered(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host_process(broker.connection_string)
    async with client_of(broker) as client:
        await client.send({**sandbox_job("1").model_dump(mode="json"), "entrypoint": "gone.py"})
        _, result = await client.result()
        assert result.verdict is Verdict.INVALID_JOB
        assert result.error is not None
        assert result.error.startswith("data.entrypoint: 'gone.py'")
        await client.send({**sandbox_job("1").model_dump(mode="json"), "language": "cobol"})
        _, result = await client.result()
        assert result.error is not None
        assert result.error.startswith("data.language")


async def test_a_program_may_run_longer_than_the_lock_of_its_job(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host_process(broker.connection_string)
    async with client_of(broker) as client:
        await client.send(sandbox_job("import time; time.sleep(8); print('x')", wall_seconds=20))
        _, result = await client.result()
        assert result.stdout == "x\n"
        await client.no_result(2)
    assert broker.depth("sandbox-jobs")["active"] == 0


async def test_a_killed_host_leaves_no_program_and_its_job_is_run_by_the_next(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    marker = f"qlp-orphan-{uuid4()}"
    host = host_process(broker.connection_string)
    job = sandbox_job("import time; time.sleep(4); print('done')", args=(marker,), wall_seconds=60)
    async with client_of(broker) as client:
        await client.send(job)
        await until(lambda: programs_with(marker))
        host.process.kill()
        await host.ended()
        await until(lambda: not processes_with(marker))
        host_process(broker.connection_string)
        _, result = await client.result(30)
    assert (result.run_id, result.stdout) == (job.run_id, "done\n")


async def test_a_stop_lets_running_programs_finish_and_takes_no_more(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(broker.connection_string, QLP_SANDBOX_CONCURRENCY="1")
    marker = f"qlp-drain-{uuid4()}"
    async with client_of(broker) as client:
        await client.send(sandbox_job("import time; time.sleep(2); print('x')", args=(marker,)))
        await until(lambda: programs_with(marker))
        await client.send(sandbox_job("print('later')"))
        host.process.send_signal(signal.SIGTERM)
        _, result = await client.result()
        assert result.stdout == "x\n"
        assert await host.ended() == 0
        await client.no_result()
    assert broker.depth("sandbox-jobs")["active"] == 1


async def test_a_program_that_outlasts_the_drain_is_killed_and_its_job_given_back(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(broker.connection_string, QLP_SANDBOX_DRAIN_SECONDS="0.5")
    marker = f"qlp-late-{uuid4()}"
    async with client_of(broker) as client:
        job = sandbox_job("import time; time.sleep(60)", args=(marker,), wall_seconds=60)
        await client.send(job)
        await until(lambda: programs_with(marker))
        host.process.send_signal(signal.SIGINT)
        assert await host.ended() == 0
        await client.no_result()
    assert not processes_with(marker)
    assert broker.depth("sandbox-jobs")["active"] == 1


async def test_a_second_signal_ends_the_host_at_once(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(broker.connection_string)
    marker = f"qlp-second-{uuid4()}"
    async with client_of(broker) as client:
        job = sandbox_job("import time; time.sleep(60)", args=(marker,), wall_seconds=60)
        await client.send(job)
        await until(lambda: programs_with(marker))
        host.process.send_signal(signal.SIGTERM)
        await until(lambda: "second signal" in host.log.read_text())
        began = time.monotonic()
        host.process.send_signal(signal.SIGTERM)
        assert await host.ended() == 130
        assert time.monotonic() - began < 2
        await until(lambda: not processes_with(marker))


async def test_a_restarted_bus_is_found_again(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(broker.connection_string)
    await host.consuming()
    broker.kill()
    await host.wait_until(
        lambda status, body: status == 503 and "Service Bus" in body["detail"], 60
    )
    broker.start()
    await host.wait_until(lambda status, _: status == 200, 60)
    async with client_of(broker) as client:
        await client.send(sandbox_job("print('back')"))
        _, result = await client.result()
    assert result.stdout == "back\n"


async def test_without_a_runtime_jobs_wait_and_health_says_why(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(
        broker.connection_string,
        QLP_SANDBOX_RUNTIMES="docker",
        DOCKER_HOST="unix:///nonexistent/docker.sock",
    )
    async with client_of(broker) as client:
        await client.send(sandbox_job("1"))
        body = await host.wait_until(lambda _, body: "docker" in body["runtimes"])
        status, _ = await host.health()
        assert status == 503
        assert body["status"] == 503
        assert "jobs wait" in body["detail"]
        assert "DOCKER_HOST" in body["runtimes"]["docker"]["fix"]
        await client.no_result()
    assert broker.depth("sandbox-jobs")["active"] == 1


async def test_health_reports_the_runtime_and_its_hardening(
    broker: BrokerProcess, host_process: StartHost
) -> None:
    host = host_process(broker.connection_string)
    body = await host.consuming()
    assert (body["status"], body["runtime"]) == ("consuming", "bubblewrap")
    assert body["limits"].startswith(("cgroup", "rlimits"))
    assert body["seccomp"] == "on"
    assert body["bus"]["connected"]


async def test_wrong_settings_are_named(tmp_path: Path) -> None:
    for settings, expected in (
        ({}, "set ServiceBusConnection"),
        ({"ServiceBusConnection": "nonsense"}, "not a connection string"),
        (
            {"ServiceBusConnection": "Endpoint=sb://x", "QLP_SANDBOX_RUNTIMES": "podman"},
            "QLP_SANDBOX_RUNTIMES",
        ),
        (
            {"ServiceBusConnection": "Endpoint=sb://x", "QLP_SANDBOX_CONCURRENCY": "0"},
            "QLP_SANDBOX_CONCURRENCY",
        ),
    ):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("QLP_", "ServiceBus"))}
        status, errors = await _start_wrongly({**clean, **settings})
        assert status == 2
        assert expected in errors


async def _start_wrongly(environment: dict[str, str]) -> tuple[int | None, str]:
    import sys

    from tests.fixtures.sandbox import ROOT

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox_host"),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode, errors.decode()
