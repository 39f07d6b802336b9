"""Service Bus triggers: receive messages, run the function, settle the messages.

As in the extension's ServiceBusListener, with cardinality one up to ``maxConcurrentCalls`` messages
are processed at the same time; with cardinality many, one batch at a time. A message is received
only when a slot is free (unless host.json sets prefetchCount), so that its lock does not expire
while it waits here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass
from datetime import timedelta

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient

from infra.local.functions_host.host_json import ServiceBusOptions
from infra.local.functions_host.invocation import FunctionFailedError, Invoker
from infra.local.functions_host.model import HostedFunction, ServiceBusTrigger
from infra.local.functions_host.service_bus.backoff import Backoff
from infra.local.functions_host.service_bus.link import BATCH_GAP_SECONDS, ServiceBusLink
from infra.local.functions_host.service_bus.messages import (
    UnreadableBodyError,
    batch_argument,
    single_argument,
    trace_of,
)

logger = logging.getLogger(__name__)

_ABANDON_AT_EXIT_SECONDS = 2.0
_FIRST_ATTEMPT_SECONDS = 5.0
_CANCEL_AGAIN_SECONDS = 0.5


@dataclass(eq=False)
class Listener(ABC):
    """Receives messages for one function until stopped."""

    function: HostedFunction
    invoker: Invoker
    options: ServiceBusOptions
    client: InitVar[ServiceBusClient]

    def __post_init__(self, client: ServiceBusClient) -> None:
        trigger = self.function.trigger
        assert isinstance(trigger, ServiceBusTrigger)
        self.trigger = trigger
        self.link = ServiceBusLink(client, trigger, self.options.prefetch_count)
        self._receiving: asyncio.Task[None] | None = None
        self._processing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start receiving; returns after the first attempt to connect, or after 5 s."""
        self._receiving = asyncio.create_task(self._receive_for_ever())
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_ATTEMPT_SECONDS):
                await self.link.first_attempt_made.wait()

    async def _receive_for_ever(self) -> None:
        backoff = Backoff()
        while True:
            await self.link.keep_open()
            try:
                await self.receive_next()
                backoff.reset()
            except Exception as error:  # noqa: BLE001  # connection errors have many types
                self.link.report(error)
                await asyncio.sleep(backoff.next())

    @abstractmethod
    async def receive_next(self) -> None:
        """Receive messages and start to process them."""

    def spawn(self, messages: Sequence[ServiceBusReceivedMessage]) -> asyncio.Task[None]:
        """Process ``messages`` in a task of their own."""
        task = asyncio.create_task(self._process(messages))
        self._processing.add(task)
        task.add_done_callback(self._processing.discard)
        return task

    async def _process(self, messages: Sequence[ServiceBusReceivedMessage]) -> None:
        """Run the function; complete the messages if it returns, abandon them if it fails."""
        try:
            try:
                argument, trace = self.argument(messages)
                await self.run(messages, argument, trace)
            finally:
                self.ended()
        except (FunctionFailedError, UnreadableBodyError) as error:
            if isinstance(error, UnreadableBodyError):
                logger.error("function %s: %s", self.function.name, error)
            await self._abandon(messages)
        except asyncio.CancelledError:
            # The host stops: abandon the messages rather than let their locks expire.
            with suppress(TimeoutError):
                async with asyncio.timeout(_ABANDON_AT_EXIT_SECONDS):
                    await self._abandon(messages)
            raise
        except Exception:
            logger.exception("function %s: its argument cannot be created", self.function.name)
            await self._abandon(messages)
        else:
            await asyncio.gather(*(self.link.complete(message) for message in messages))

    async def _abandon(self, messages: Sequence[ServiceBusReceivedMessage]) -> None:
        await asyncio.gather(*(self.link.abandon(message) for message in messages))

    def ended(self) -> None:  # noqa: B027  # only SingleListener has slots
        """Called when the function has returned or failed, before its messages are settled."""

    @abstractmethod
    def argument(
        self, messages: Sequence[ServiceBusReceivedMessage]
    ) -> tuple[object, Mapping[str, str]]:
        """Return the function's argument and its trace context."""

    async def run(
        self,
        messages: Sequence[ServiceBusReceivedMessage],
        argument: object,
        trace: Mapping[str, str],
    ) -> None:
        """Run the function."""
        await self.invoker.run(self.function, argument, trace)

    async def stop(self) -> None:
        """Stop receiving; running functions continue."""
        while self._receiving is not None and not self._receiving.done():
            # Repeated, because Python 3.11's wait_for, which the SDK uses to read, loses a
            # cancellation that arrives together with its result.
            self._receiving.cancel()
            await asyncio.wait([self._receiving], timeout=_CANCEL_AGAIN_SECONDS)

    async def finish(self, seconds: float) -> None:
        """Wait ``seconds`` for messages that are processed, cancel the rest, and disconnect."""
        if self._processing:
            _, late = await asyncio.wait(self._processing, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self.link.close()


class SingleListener(Listener):
    """Cardinality one: each message by itself."""

    def __post_init__(self, client: ServiceBusClient) -> None:
        super().__post_init__(client)
        self._slots = asyncio.Semaphore(self.options.max_concurrent_calls)
        self._renewal = timedelta(seconds=self.options.max_auto_lock_renewal_seconds)

    async def receive_next(self) -> None:
        """Wait for a free slot, then for a message."""
        await self._slots.acquire()
        message = None
        try:
            message = await self.link.receive_one()
        finally:
            if message is None:
                self._slots.release()
        if message is not None:
            self.spawn([message])

    def argument(
        self, messages: Sequence[ServiceBusReceivedMessage]
    ) -> tuple[object, Mapping[str, str]]:
        """Return one ``func.ServiceBusMessage``."""
        return single_argument(self.trigger, messages[0]), trace_of(messages[0])

    async def run(
        self,
        messages: Sequence[ServiceBusReceivedMessage],
        argument: object,
        trace: Mapping[str, str],
    ) -> None:
        """Run the function while the message's lock is renewed."""
        if not self._renewal:
            await self.invoker.run(self.function, argument, trace)
            return
        renewal = asyncio.create_task(self.link.renew_until_cancelled(messages[0], self._renewal))
        try:
            await self.invoker.run(self.function, argument, trace)
        finally:
            renewal.cancel()

    def ended(self) -> None:
        """Free the slot; settling needs none."""
        self._slots.release()


class BatchListener(Listener):
    """Cardinality many: batches; locks are not renewed, as in the extension."""

    async def receive_next(self) -> None:
        """Receive a batch and wait until it is processed."""
        first = await self.link.receive_one()
        if first is not None:
            await asyncio.wait([self.spawn(await self._gather([first]))])

    async def _gather(
        self, messages: list[ServiceBusReceivedMessage]
    ) -> list[ServiceBusReceivedMessage]:
        """Add messages until a gap; below the minimum, wait up to ``maxBatchWaitTime`` for more."""
        options = self.options
        end = time.monotonic() + options.max_batch_wait_seconds
        wait = BATCH_GAP_SECONDS
        try:
            while (missing := options.max_message_batch_size - len(messages)) > 0:
                more = await self.link.receive_more(missing, wait)
                messages += more
                wait = BATCH_GAP_SECONDS if more else end - time.monotonic()
                if not more and (len(messages) >= options.min_message_batch_size or wait <= 0):
                    break
        except Exception as error:  # noqa: BLE001  # the messages received so far are processed
            self.link.report(error)
        return messages

    def argument(
        self, messages: Sequence[ServiceBusReceivedMessage]
    ) -> tuple[object, Mapping[str, str]]:
        """Return a list of ``func.ServiceBusMessage``; a batch has no single parent trace."""
        return batch_argument(self.trigger, messages), {}


def make_listener(
    function: HostedFunction,
    invoker: Invoker,
    options: ServiceBusOptions,
    client: ServiceBusClient,
) -> Listener:
    """Return the listener for the function's cardinality."""
    trigger = function.trigger
    assert isinstance(trigger, ServiceBusTrigger)
    kind = BatchListener if trigger.many else SingleListener
    return kind(function, invoker, options, client)
