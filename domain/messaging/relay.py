"""Publishes the log, which is the outbox: follows it, and sends its events' messages.

So there is no second table to keep in step. A crash between commit and publish loses nothing (the
checkpoint has not moved), one between publish and checkpoint repeats messages whose ids are derived
from the events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from domain.database.outages import describe_outage, outage_of
from domain.eventlog.checkpoints import CheckpointStore
from domain.eventlog.intent_streams import UnreadableStream
from domain.eventlog.log import EventLog
from domain.eventlog.models import Checkpoint, RecordedEvent
from domain.messaging.publisher import OutgoingMessage, Publisher, PublishFailed
from domain.messaging.routing import Router

logger = logging.getLogger(__name__)

NAME = "relay"
PAGE = 200

#: Pause after a run that `Relay.wake` began, seconds. The first call is served at once; under load,
#: events committed during the pause share the next run, which halved the CPU time of accepting an
#: intent.
PAUSE_SECONDS = 0.005

#: Called with an event that cannot be published, and why: `UnreadableStream` where a later release
#: may be able to publish it.
Reject = Callable[[RecordedEvent, Exception], Awaitable[None]]


class Relay:
    """Publishes events in log order; one relay at a time, whichever process it runs in."""

    def __init__(
        self,
        log: EventLog,
        checkpoints: CheckpointStore,
        router: Router,
        publisher: Publisher,
        reject: Reject,
    ) -> None:
        self._log = log
        self._checkpoints = checkpoints
        self._router = router
        self._publisher = publisher
        self._reject = reject
        self._wanted = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Publish soon, without waiting for it; all calls during a run lead to one more run."""
        self._wanted.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run_while_wanted(), name="relay")

    async def _run_while_wanted(self) -> None:
        while self._wanted.is_set():
            self._wanted.clear()
            try:
                await self.run_until_caught_up()
            except PublishFailed as error:
                logger.warning("relay stopped, the timer will resume it: %s", error)
            except Exception as error:
                if outage_of(error):
                    description = describe_outage(error)
                    logger.warning("relay stopped, the timer will resume it: %s", description)
                else:
                    logger.exception("relay stopped, the timer will resume it")
            await asyncio.sleep(PAUSE_SECONDS)

    async def run_until_caught_up(self) -> int:
        """Publish everything committed since the checkpoint.

        Returns:
            the number of events published.

        Raises:
            PublishFailed: the bus did not take them; the checkpoint stays before them.
        """
        count = 0
        await self._publisher.open()
        async with self._checkpoints.exclusive(NAME) as lease:
            checkpoint = await lease.load()
            page_is_full = True
            while page_is_full and (page := await self._log.read_all(checkpoint, PAGE)):
                await self.publish(page)
                checkpoint = page[-1].checkpoint
                await lease.save(checkpoint)
                count += len(page)
                page_is_full = len(page) == PAGE
        return count

    async def published_until(self) -> Checkpoint | None:
        """Up to where the log is published; None if nothing is left to publish.

        Later events are not lost: the relay has yet to publish them.
        """
        checkpoint = await self._checkpoints.of(NAME)
        return checkpoint if await self._log.read_all(checkpoint, 1) else None

    async def publish(self, records: Sequence[RecordedEvent]) -> None:
        """Publish the messages of ``records``; one that cannot be published is rejected.

        Of a stream that this release cannot read, only the announcement is sent.
        """
        messages: list[OutgoingMessage] = []
        for record in records:
            try:
                messages += await self._router.messages_for(record)
            except UnreadableStream as error:
                logger.warning("event %s: its job is held back: %s", record.event_id, error)
                messages.append(self._router.announcement(record))
                await self._reject(record, error)
            except ValueError as error:
                logger.error("event %s cannot be published: %s", record.event_id, error)
                await self._reject(record, error)
        await self._publisher.send(messages)
