"""A trigger's connection to its entity: receives, settles, renews locks, reconnects.

It has two of the SDK's receivers. All calls on a receiver share its socket: each call reads from it
for up to SOCKET_TIMEOUT, and may read what another call is waiting for. With a single receiver, the
median time from send to the function's start was 20 ms, and the maximum rate 200 messages per
second. So one receiver only receives. The other never asks for messages; it settles and renews by
lock token over the management link, one call at a time. This also settles a message that was
received before the broker restarted, if its lock is still valid.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from azure.servicebus import ServiceBusReceivedMessage, ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    MessageLockLostError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
)

from infra.local.functions_host.model import ServiceBusTrigger
from infra.local.functions_host.service_bus.backoff import Backoff

logger = logging.getLogger(__name__)

SOCKET_TIMEOUT = 0.05
RECEIVE_WAIT_SECONDS = 60.0
SETTLE_ATTEMPTS = 5

#: A batch ends when no message arrives for this long; the .NET client also waits 20 ms.
BATCH_GAP_SECONDS = 0.02


class ServiceBusLink:
    """The connection of one trigger."""

    def __init__(
        self, client: ServiceBusClient, trigger: ServiceBusTrigger, prefetch_count: int
    ) -> None:
        self._new_receiver = partial(_receiver, client, trigger, prefetch_count)
        self._receiver = self._new_receiver()
        self._settler = _receiver(client, trigger, 0)
        self._settling = asyncio.Lock()
        self._entity = trigger.entity
        self._state = ""
        self.first_attempt_made = asyncio.Event()

    async def keep_open(self) -> None:
        """Open the receivers, retrying until that succeeds; logs each change of state once."""
        backoff = Backoff()
        while True:
            try:
                await self._open_both()
            except Exception as error:  # noqa: BLE001  # whatever the error is, retry
                self.report(error)
                self.first_attempt_made.set()
                await asyncio.sleep(backoff.next())
            else:
                self._log_state("connected", logging.INFO, "receiving from %s", self._entity)
                self.first_attempt_made.set()
                return

    async def _open_both(self) -> None:
        """Open both receivers at the same time; a settler that is in use opens itself."""
        opening = [self._receiver.__aenter__()]
        if not self._settling.locked():
            opening.append(self._open_settler())
        for outcome in await asyncio.gather(*opening, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _open_settler(self) -> ServiceBusReceiver:
        async with self._settling:
            return await self._settler.__aenter__()

    def report(self, error: Exception) -> None:
        """Log why the entity cannot be reached; the same reason only once in a row."""
        if isinstance(error, MessagingEntityNotFoundError):
            self._log_state(
                "missing",
                logging.ERROR,
                "%s does not exist in the namespace; create it or correct the binding (retrying)",
                self._entity,
            )
        elif isinstance(error, ServiceBusAuthenticationError | ServiceBusAuthorizationError):
            self._log_state(
                "refused",
                logging.ERROR,
                "the Service Bus refuses the connection's key or identity for %s (retrying): %s",
                self._entity,
                error,
            )
        else:
            self._log_state(
                "down",
                logging.WARNING,
                "lost %s (retrying): %s",
                self._entity,
                _text(error),
            )

    def _log_state(self, state: str, level: int, text: str, *arguments: object) -> None:
        if state != self._state:
            self._state = state
            logger.log(level, text, *arguments)

    async def receive_one(self) -> ServiceBusReceivedMessage | None:
        """Wait up to a minute for a message. Cancelling loses none: it stays in the broker."""
        started = time.monotonic()
        messages = await self._receiver.receive_messages(1, RECEIVE_WAIT_SECONDS)
        if not messages and time.monotonic() - started < RECEIVE_WAIT_SECONDS / 2:
            # After a frame that it could not decode, the SDK's receiver always returns immediately.
            broken, self._receiver = self._receiver, self._new_receiver()
            await broken.close()
            raise ConnectionError("the receiver has stopped and is replaced")
        return messages[0] if messages else None

    async def receive_more(self, count: int, seconds: float) -> list[ServiceBusReceivedMessage]:
        """Return up to ``count`` messages that have arrived, or arrive within ``seconds``."""
        return await self._receiver.receive_messages(count, seconds)

    async def complete(self, message: ServiceBusReceivedMessage) -> None:
        """Remove the message from the entity."""
        await self._settle("completed", self._settler.complete_message, message)

    async def abandon(self, message: ServiceBusReceivedMessage) -> None:
        """Return the message to the entity immediately, with its delivery count raised."""
        await self._settle("abandoned", self._settler.abandon_message, message)

    async def _settle(
        self, outcome: str, operation: Callable[..., Any], message: ServiceBusReceivedMessage
    ) -> None:
        """Settle, reconnecting if necessary; if that fails, the message is delivered again."""
        backoff = Backoff()
        for attempt in range(1, SETTLE_ATTEMPTS + 1):
            try:
                async with self._settling:
                    await self._settler.__aenter__()  # does nothing if it is open already
                    await operation(message)
            except MessageAlreadySettled:
                return
            except MessageLockLostError:
                logger.warning(
                    "message %s of %s could not be %s: its lock was lost, so it is delivered again",
                    message.message_id,
                    self._entity,
                    outcome,
                )
                return
            except Exception as error:  # noqa: BLE001  # connection errors come in many types
                if attempt == SETTLE_ATTEMPTS:
                    logger.warning(
                        "message %s of %s could not be %s and is delivered again when its lock "
                        "expires: %s",
                        message.message_id,
                        self._entity,
                        outcome,
                        _text(error),
                    )
                    return
                await asyncio.sleep(backoff.next())
            else:
                return

    async def renew_until_cancelled(
        self, message: ServiceBusReceivedMessage, longest: timedelta
    ) -> None:
        """Renew the message's lock at half of its duration, for at most ``longest`` from now."""
        end = datetime.now(UTC) + longest
        while True:
            now = datetime.now(UTC)
            locked_until = message.locked_until_utc or now
            await asyncio.sleep(max((locked_until - now).total_seconds() / 2, 0.1))
            if datetime.now(UTC) >= end:
                logger.warning(
                    "message %s: still running after maxAutoLockRenewalDuration; its lock is not "
                    "renewed any more",
                    message.message_id,
                )
                return
            try:
                async with self._settling:
                    await self._settler.renew_message_lock(message)
            except MessageLockLostError:
                logger.warning(
                    "message %s: its lock was lost while the function ran", message.message_id
                )
                return
            except Exception as error:  # noqa: BLE001  # retry, since the lock may still be valid
                logger.debug("message %s: lock not renewed: %r", message.message_id, error)

    async def close(self) -> None:
        """Disconnect; messages that were only prefetched return without counting as delivered."""
        await asyncio.gather(self._receiver.close(), self._settler.close())


def _text(error: Exception) -> str:
    return str(error) or repr(error)


def _receiver(
    client: ServiceBusClient, trigger: ServiceBusTrigger, prefetch_count: int
) -> ServiceBusReceiver:
    if trigger.queue is not None:
        return client.get_queue_receiver(
            trigger.queue,
            receive_mode=ServiceBusReceiveMode.PEEK_LOCK,
            prefetch_count=prefetch_count,
            socket_timeout=SOCKET_TIMEOUT,
        )
    assert trigger.topic is not None
    assert trigger.subscription is not None
    return client.get_subscription_receiver(
        trigger.topic,
        trigger.subscription,
        receive_mode=ServiceBusReceiveMode.PEEK_LOCK,
        prefetch_count=prefetch_count,
        socket_timeout=SOCKET_TIMEOUT,
    )
