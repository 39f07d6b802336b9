"""Publishes what was just committed, before the relay comes to it.

The relay reads events back from the log, finds their intents and notes how far it has come. Behind
a commit all that is known, so what somebody waits for, a job or a step that others must take, is
sent from there. That is noted in the database, for many events at once. The relay of whichever
process comes to the events seconds later passes them over. What was not sent, or was not noted
because the process died, it sends, under the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.application.handler import Change
from domain.database.outages import describe_outage, outage_of
from domain.eventlog.intent_streams import stream_of
from domain.messaging.publisher import OutgoingMessage, Publisher, PublishFailed
from domain.messaging.relay import Relay
from domain.messaging.routing import Router
from domain.messaging.sent import note

logger = logging.getLogger(__name__)

#: How long the relay leaves events alone, seconds: many times what sending and noting take.
RELAY_MIN_AGE = 5.0

#: What is sent in this time is noted together, seconds.
NOTE_SECONDS = 0.5

#: Changes that wait to be sent at most; more are left to the relay.
MOST_WAITING = 1_000


class DirectPublisher:
    """Sends the messages of changes of this process, those that wait for a send together."""

    def __init__(
        self, pool: AsyncConnectionPool, router: Router, publisher: Publisher, relay: Relay
    ) -> None:
        self._pool = pool
        self._router = router
        self._publisher = publisher
        self._relay = relay
        self._waiting: list[Change] = []
        self._sent: list[UUID] = []
        self._sending: asyncio.Task[None] | None = None
        self._noting: asyncio.Task[None] | None = None

    def publish(self, change: Change) -> None:
        """Send the messages of a change soon, without waiting for it."""
        self._relay.wake(stream_of(change.state.id))
        # Where every event is announced, announcements keep their order: the relay sends them all.
        if self._router.every_event or len(self._waiting) >= MOST_WAITING:
            return
        self._waiting.append(change)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_waiting(), name="publish")

    async def _send_waiting(self) -> None:
        while self._waiting:
            changes, self._waiting = self._waiting, []
            try:
                await self._send(changes)
            except PublishFailed as error:
                logger.warning("the relay will send what was not sent at once: %s", error)
            except Exception:
                logger.exception("the relay will send what was not sent at once")

    async def _send(self, changes: Sequence[Change]) -> None:
        messages: list[OutgoingMessage] = []
        event_ids: list[UUID] = []
        for change in changes:
            for record in change.records:
                if found := await self._router.messages_due(record, change.state):
                    messages += found
                    event_ids.append(record.event_id)
        if not messages:
            return
        await self._publisher.send(messages)
        self._sent += event_ids
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note_sent(), name="note-sent")

    async def _note_sent(self) -> None:
        while self._sent:
            await asyncio.sleep(NOTE_SECONDS)
            event_ids, self._sent = self._sent, []
            try:
                await note(self._pool, event_ids)
            except Exception as error:
                if outage_of(error) is None:
                    raise
                logger.warning(
                    "%d events will be published again: %s", len(event_ids), describe_outage(error)
                )
