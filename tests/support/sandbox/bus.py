"""A bus with short locks for sandbox hosts, a client of it, and a look at what hosts leave."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient

from domain.contracts.envelope import Envelope
from domain.contracts.job import JOB_TYPE, SandboxJob, SandboxResult
from tests.support.servicebus.broker import BrokerProcess

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


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

    async def result(self, seconds: float = 60) -> tuple[ServiceBusReceivedMessage, SandboxResult]:
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
                messages = await receiver.receive_messages(count, max_wait_time=60)
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
def sandbox_bus(broker_process: Callable[..., BrokerProcess], tmp_path: Path) -> BrokerProcess:
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
    return list(_command_lines_with(marker))


def _command_lines_with(marker: str) -> dict[int, bytes]:
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile
            command = (entry / "cmdline").read_bytes()
            if marker.encode() in command:
                found[int(entry.name)] = command
    return found


def programs_with(marker: str) -> list[int]:
    """Only the program itself: its box stands, and with it what ends it when the host dies.

    While bwrap still sets a box up, its PID 1 has not asked for the parent-death signal yet; what
    a crash leaves behind in those milliseconds is reaped at the next start.
    """
    return [
        pid
        for pid, command in _command_lines_with(marker).items()
        if b"python" in command.split(b"\0")[0]
    ]
