"""Connections to Service Bus: one receiver and one sender for each program that may run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from azure.core.exceptions import AzureError
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.aio import (
    AutoLockRenewer,
    ServiceBusClient,
    ServiceBusReceiver,
    ServiceBusSender,
)

from domain.contracts.amqp_decoding import complete_decoder
from domain.contracts.job import RESULT_TYPE
from sandbox_host.host.messages import CONTENT_TYPE, Reply
from sandbox_host.net.backoff import Backoff
from sandbox_host.settings import Settings

log = logging.getLogger(__name__)

#: What the SDK raises when the bus is unavailable; it does not wrap socket errors.
BUS_ERRORS = (AzureError, OSError, TimeoutError)

#: Seconds for which a message's lock is renewed: enough to wait for memory behind other jobs, to
#: run the longest program, and to send its artifacts and its result.
_RENEW_SECONDS = 3600.0
_RECEIVE_SECONDS = 30.0

#: Retries made by the SDK itself; this host retries with a backoff that a stop can interrupt.
_SDK_RETRIES = 1
_MAX_REASON = 4096


class Link:
    """A receiver of jobs and the sender of their results."""

    def __init__(
        self, receiver: ServiceBusReceiver, sender: ServiceBusSender, renewer: AutoLockRenewer
    ) -> None:
        self._receiver = receiver
        self._sender = sender
        self._renewer = renewer

    async def receive(self) -> ServiceBusReceivedMessage | None:
        """The next job message, whose lock is renewed until it is settled; None if none came.

        It asks for one message at a time: asked for more, the SDK waits until it has them all.
        """
        messages = await self._receiver.receive_messages(
            max_message_count=1, max_wait_time=_RECEIVE_SECONDS
        )
        if not messages:
            return None
        self._renewer.register(self._receiver, messages[0], _RENEW_SECONDS)
        return messages[0]

    async def send(self, message: ServiceBusReceivedMessage, reply: Reply) -> bool:
        """Send a result, retrying for as long as the job's lock is held.

        Returns:
            Whether it was sent; if not, the job will be delivered again.
        """
        backoff = Backoff(first=0.2, ceiling=5.0)
        while True:
            try:
                await self._sender.send_messages(
                    ServiceBusMessage(
                        reply.body,
                        message_id=reply.message_id,
                        correlation_id=reply.correlation_id,
                        content_type=CONTENT_TYPE,
                        subject=RESULT_TYPE,
                    )
                )
            except BUS_ERRORS as error:
                if _lock_lost(message):
                    log.error("result %s was not sent before the lock expired", reply.message_id)
                    return False
                log.warning("result %s not sent yet: %s", reply.message_id, type(error).__name__)
                await asyncio.sleep(backoff.next())
            else:
                return True

    async def complete(self, message: ServiceBusReceivedMessage) -> None:
        """Remove the job from the queue."""
        await self._receiver.complete_message(message)

    async def abandon(self, message: ServiceBusReceivedMessage) -> None:
        """Give the job back for another delivery."""
        await self._receiver.abandon_message(message)

    async def dead_letter(
        self, message: ServiceBusReceivedMessage, reason: str, description: str
    ) -> None:
        """Move the message to the dead-letter queue, for an operator."""
        await self._receiver.dead_letter_message(
            message, reason=reason, error_description=description[:_MAX_REASON]
        )


class Bus:
    """Opens links."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @contextlib.asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        """Open a link with its own connections.

        Raises:
            BUS_ERRORS: the namespace cannot be reached, or refuses.
        """
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(await self._client(stack))
            renewer = AutoLockRenewer(_RENEW_SECONDS)
            stack.push_async_callback(renewer.close)
            receiver = await stack.enter_async_context(
                client.get_queue_receiver(self._settings.jobs_queue)
            )
            sender = await stack.enter_async_context(
                client.get_queue_sender(self._settings.results_queue)
            )
            yield Link(receiver, sender, renewer)

    async def _client(self, stack: contextlib.AsyncExitStack) -> ServiceBusClient:
        complete_decoder()
        if self._settings.connection:
            return ServiceBusClient.from_connection_string(
                self._settings.connection, retry_total=_SDK_RETRIES
            )
        # Imported here because it is slow to import, and not needed with a connection string.
        from azure.identity.aio import DefaultAzureCredential

        credential = await stack.enter_async_context(DefaultAzureCredential())
        assert self._settings.namespace is not None
        return ServiceBusClient(self._settings.namespace, credential, retry_total=_SDK_RETRIES)


def _lock_lost(message: ServiceBusReceivedMessage) -> bool:
    until = message.locked_until_utc
    return until is None or until <= datetime.now(UTC)
