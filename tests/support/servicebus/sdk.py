"""The SDK, synchronous and asynchronous, as one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
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
        options.setdefault("max_wait_time", 60)
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
        # Closing waits, mostly; with the loop's few default threads it would take turns.
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=64) as threads:
            await asyncio.gather(
                *(
                    handler.close()
                    if self.asynchronous
                    else loop.run_in_executor(threads, handler.wrapped.close)
                    for handler in self._handlers
                )
            )
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


def with_both_sdks(body: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """Run a test's body with both SDKs at the same time, each on entities of its own."""
    signature = inspect.signature(body)

    async def test(sync_sdk: Sdk, async_sdk: Sdk, **fixtures: Any) -> None:
        async def run(name: str, sdk: Sdk) -> None:
            try:
                await body(sdk=sdk, **fixtures)
            except BaseException as error:
                error.add_note(f"with the {name} SDK")
                raise

        async with asyncio.TaskGroup() as group:
            group.create_task(run("synchronous", sync_sdk))
            group.create_task(run("asynchronous", async_sdk))

    kind = inspect.Parameter.KEYWORD_ONLY
    sdks = [inspect.Parameter(name, kind) for name in ("sync_sdk", "async_sdk")]
    others = [p.replace(kind=kind) for p in signature.parameters.values() if p.name != "sdk"]
    test.__signature__ = signature.replace(parameters=sdks + others)  # type: ignore[attr-defined]
    test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
    return test
