"""Publishes the log, which is the outbox: follows it, and sends its events' messages.

So there is no second table to keep in step. A crash between commit and publish loses nothing (the
relay has not moved), one between publish and the note of it repeats messages whose ids are derived
from the events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from psycopg_pool import AsyncConnectionPool

from domain.database.outages import describe_outage, outage_of
from domain.eventlog.followers import ALL, Followers, Page, part_of
from domain.eventlog.intent_streams import UnreadableStream
from domain.eventlog.models import RecordedEvent
from domain.messaging.publisher import OutgoingMessage, Publisher, PublishFailed
from domain.messaging.routing import Router

logger = logging.getLogger(__name__)

NAME = "relay"

#: Events whose messages are sent together.
PAGE = 200

#: Pause after a run that `Relay.wake` began, seconds. The first call is served at once; under load,
#: events committed during the pause share the next run, which halved the CPU time of accepting an
#: intent.
PAUSE_SECONDS = 0.005

#: How long one call may go on, seconds.
RUN_SECONDS = 20.0

#: Called with an event that cannot be published, and why: `UnreadableStream` where a later release
#: may be able to publish it.
Reject = Callable[[RecordedEvent, Exception], Awaitable[None]]


class Relay:
    """Publishes events, those of a stream in their order; processes share the work."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        router: Router,
        publisher: Publisher,
        reject: Reject,
    ) -> None:
        self._followers = Followers(pool)
        self._router = router
        self._publisher = publisher
        self._reject = reject
        self._wanted: set[int] = set()
        self._running: asyncio.Task[None] | None = None

    def wake(self, stream_id: str | None = None) -> None:
        """Publish soon, without waiting for it; all calls during a run lead to one more run.

        Args:
            stream_id: has new events; None: any may have some.
        """
        self._wanted.update(ALL if stream_id is None else (part_of(stream_id),))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run_while_wanted(), name="relay")

    async def _run_while_wanted(self) -> None:
        while self._wanted:
            parts, self._wanted = self._wanted, set()
            try:
                await self.run_until_caught_up(parts)
            except PublishFailed as error:
                logger.warning("relay stopped, the timer will resume it: %s", error)
            except Exception as error:
                if outage_of(error):
                    description = describe_outage(error)
                    logger.warning("relay stopped, the timer will resume it: %s", description)
                else:
                    logger.exception("relay stopped, the timer will resume it")
            await asyncio.sleep(PAUSE_SECONDS)

    async def run_until_caught_up(
        self, parts: Collection[int] = ALL, seconds: float = RUN_SECONDS
    ) -> int:
        """Publish what is committed in ``parts`` and no other process is publishing.

        Takes ``seconds`` at most, and a page: with writers all the time there is always more.

        Returns:
            the number of events published.

        Raises:
            PublishFailed: the bus did not take them; they are published again.
        """
        count = 0
        await self._publisher.open()
        deadline = time.monotonic() + seconds
        while (page := await self._publish_next(parts)) is not None:
            count += len(page.events)
            if not page.more:
                break
            if time.monotonic() > deadline:
                self.wake()  # goes on, so that this call can end
                break
        return count

    async def _publish_next(self, parts: Collection[int]) -> Page | None:
        async with self._followers.next_page(NAME, parts, PAGE) as page:
            if page is not None:
                async with page.kept():
                    await self.publish(page.events)
                page.save()
        return page

    async def unpublished(self, stream_ids: Collection[str]) -> set[str]:
        """Those of the streams that have events which have yet to be published."""
        return await self._followers.behind(NAME, stream_ids)

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
