"""A receiver of the SDK that gave up is replaced; one that loses a cancellation gets another."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from azure.servicebus.aio import ServiceBusClient

from infra.local.functions_host.host_json import ServiceBusOptions
from infra.local.functions_host.model import ServiceBusTrigger
from infra.local.functions_host.service_bus.link import ServiceBusLink
from infra.local.functions_host.service_bus.trigger import SingleListener

TRIGGER = ServiceBusTrigger("m", "Bus", "q", None, None, False, "text", None)


class FakeReceiver:
    """Answers at once, even with nothing, as the SDK's does after a bad frame."""

    def __init__(self, messages: list[str]) -> None:
        self.messages = messages
        self.closed = False

    async def __aenter__(self) -> FakeReceiver:
        return self

    async def receive_messages(self, count: int, seconds: float) -> list[str]:
        taken, self.messages = self.messages[:count], self.messages[count:]
        return taken

    async def close(self) -> None:
        self.closed = True


class FakeClient:
    """Gives out receivers: the first, the settler, and then those that replace the first."""

    def __init__(self, *receivers: FakeReceiver) -> None:
        self._receivers = list(receivers)

    def get_queue_receiver(self, name: str, **options: Any) -> FakeReceiver:
        return self._receivers.pop(0)


async def test_a_receiver_that_returns_without_waiting_is_replaced() -> None:
    broken, settler, fresh = FakeReceiver([]), FakeReceiver([]), FakeReceiver(["message"])
    client = cast(ServiceBusClient, FakeClient(broken, settler, fresh))
    link = ServiceBusLink(client, TRIGGER, 0)
    await link.keep_open()
    with pytest.raises(ConnectionError, match="replaced"):
        await link.receive_one()
    assert broken.closed
    await link.keep_open()
    assert cast(Any, await link.receive_one()) == "message"
    await link.close()
    assert fresh.closed
    assert settler.closed


class DeafReceiver(FakeReceiver):
    """Loses the first cancellation, as Python 3.11's wait_for may."""

    def __init__(self) -> None:
        super().__init__([])
        self.waits = asyncio.Event()
        self.cancellations = 0

    async def receive_messages(self, count: int, seconds: float) -> list[str]:
        self.waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancellations += 1
            if self.cancellations > 1:
                raise
        raise ConnectionError("the broker is gone")


async def test_a_cancellation_that_is_lost_is_repeated() -> None:
    receiver = DeafReceiver()
    function = cast(Any, SimpleNamespace(name="f", trigger=TRIGGER))
    client = cast(ServiceBusClient, FakeClient(receiver, FakeReceiver([])))
    listener = SingleListener(function, cast(Any, None), ServiceBusOptions(), client)
    await listener.start()
    await receiver.waits.wait()
    await asyncio.wait_for(listener.stop(), 60)
    assert receiver.cancellations >= 1
