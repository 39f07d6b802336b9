"""A listener stops, whatever the SDK makes of being cancelled."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from azure.servicebus.aio import ServiceBusClient

from infra.local.functions_host.host_json import ServiceBusOptions
from infra.local.functions_host.service_bus.trigger import SingleListener
from tests.unit.infra.local.functions_host.service_bus.test_link import TRIGGER, FakeClient, FakeReceiver


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
