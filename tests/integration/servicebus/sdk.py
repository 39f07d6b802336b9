"""The SDK, synchronous and asynchronous, as one."""

from __future__ import annotations

import asyncio
from typing import Any

from azure.servicebus import ServiceBusClient
from azure.servicebus.aio import ServiceBusClient as AsyncServiceBusClient


class Handler:
    """A sender or receiver; its methods are awaited whichever SDK it belongs to."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.wrapped, name)
        if asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return call


class Sdk:
    """One of the SDK's two clients. Handlers stay open until the end: to close one costs 0.5 s."""

    def __init__(self, client: Any, asynchronous: bool) -> None:
        self.client = client
        self.asynchronous = asynchronous
        self._handlers: list[Handler] = []

    async def sender(self, queue: str = "", topic: str = "") -> Handler:
        if topic:
            return await self._open(self.client.get_topic_sender(topic))
        return await self._open(self.client.get_queue_sender(queue))

    async def receiver(self, queue: str, subscription: str = "", **options: Any) -> Handler:
        options.setdefault("max_wait_time", 5)
        if subscription:
            wrapped = self.client.get_subscription_receiver(queue, subscription, **options)
        else:
            wrapped = self.client.get_queue_receiver(queue, **options)
        return await self._open(wrapped)

    async def pair(self, queue: str, **options: Any) -> tuple[Handler, Handler]:
        """A sender and a receiver, opened at the same time."""
        sender, receiver = await asyncio.gather(self.sender(queue), self.receiver(queue, **options))
        return sender, receiver

    async def close_all(self) -> None:
        await asyncio.gather(*(handler.close() for handler in self._handlers))
        await Handler(self.client).close()

    async def _open(self, wrapped: Any) -> Handler:
        handler = Handler(wrapped)
        if self.asynchronous:
            await wrapped.__aenter__()
        else:
            await asyncio.to_thread(wrapped.__enter__)
        self._handlers.append(handler)
        return handler


def make_sdk(connection_string: str, asynchronous: bool, **options: Any) -> Sdk:
    kind: Any = AsyncServiceBusClient if asynchronous else ServiceBusClient
    options.setdefault("retry_total", 0)
    return Sdk(kind.from_connection_string(connection_string, **options), asynchronous)
