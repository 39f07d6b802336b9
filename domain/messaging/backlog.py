"""Looks at what is on the bus and was not consumed yet, without taking it.

Peeking shows messages that wait, those that a consumer holds and, in queues, those that are
scheduled. It needs the right to receive. Every look is bounded: of a long backlog only the front is
seen. What is not there may be behind it, however old it is, since events of different streams are
published in no certain order.

Source: "Message browsing", https://learn.microsoft.com/azure/service-bus-messaging/message-browsing
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from azure.servicebus import ServiceBusMessageState, ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import (
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
)

logger = logging.getLogger(__name__)

#: The most messages looked at in one entity, and in one request. Reading one takes 0.2 ms.
MAX_LOOKED_AT = 2000
_PAGE = 100

_FORBIDDEN = (ServiceBusAuthorizationError, ServiceBusAuthenticationError)

#: How long a look at all entities together may take, connecting included, seconds.
_LOOK_SECONDS = 20.0


class LookFailed(Exception):
    """The bus did not show what it holds."""


@dataclass(frozen=True, slots=True)
class Front:
    """The front of one entity's backlog.

    Attributes:
        ids: ids of its messages.
        intents: ids of the intents that they are about: their correlation ids.
        whole: whether nothing is behind it.
    """

    ids: frozenset[str] = frozenset()
    intents: frozenset[str] = frozenset()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits of each kind: jobs for sandbox hosts, results and announcements for us."""

    jobs: Front = Front()
    results: Front = Front()
    announcements: Front = Front()

    def may_advance(self, intent_id: UUID) -> bool:
        """Whether a waiting message will make the application look at the intent, or may do so."""
        fronts = (self.results, self.announcements)
        return any(str(intent_id) in front.intents or not front.whole for front in fronts)

    def may_hold_job(self, run_id: UUID) -> bool:
        """Whether the job of a run waits or is with a host, or may be."""
        return str(run_id) in self.jobs.ids or not self.jobs.whole


class Backlog:
    """Looks at the entities between the application and its sandbox hosts."""

    def __init__(
        self,
        connect: Callable[[], ServiceBusClient],
        *,
        jobs_queue: str,
        results_queue: str,
        events_topic: str,
        events_subscription: str,
    ) -> None:
        self._connect = connect
        self._jobs_queue = jobs_queue
        self._results_queue = results_queue
        self._events_topic = events_topic
        self._events_subscription = events_subscription

    async def look(self) -> Waiting:
        """What waits, looked at in the order in which an intent passes it: nothing is missed.

        An entity that we may not look into counts as empty, and the log says so.

        Raises:
            LookFailed: the bus cannot be reached.
        """
        try:
            async with asyncio.timeout(_LOOK_SECONDS), self._connect() as client:
                receivers = [
                    client.get_queue_receiver(self._jobs_queue),
                    client.get_queue_receiver(self._results_queue),
                    client.get_subscription_receiver(self._events_topic, self._events_subscription),
                ]
                await asyncio.gather(*map(_open, receivers))  # half a second each
                return Waiting(*[await _front(receiver) for receiver in receivers])
        except (ServiceBusError, OSError, TimeoutError) as error:
            raise LookFailed(f"{type(error).__name__}: {error}") from error


async def _open(receiver: ServiceBusReceiver) -> None:
    with suppress(*_FORBIDDEN):  # reported when messages are asked for
        await receiver.__aenter__()


async def _front(receiver: ServiceBusReceiver) -> Front:
    messages: list[ServiceBusReceivedMessage] = []
    last, whole = 0, False
    try:
        while not whole and len(messages) < MAX_LOOKED_AT:
            page = await receiver.peek_messages(_PAGE, sequence_number=last + 1)
            messages += page
            last = max((message.sequence_number or 0 for message in page), default=last)
            whole = not page
    except _FORBIDDEN as error:
        logger.error(
            "%s: its messages cannot be seen, so intents may be published again needlessly; "
            "grant the application Azure Service Bus Data Receiver: %s",
            receiver.entity_path,
            error,
        )
        return Front()
    coming = [each for each in messages if each.state is not ServiceBusMessageState.DEFERRED]
    return Front(
        frozenset(each.message_id for each in coming if each.message_id),
        frozenset(each.correlation_id for each in coming if each.correlation_id),
        whole,
    )
