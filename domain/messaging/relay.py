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
from domain.messaging.sent import forget, pass_over

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
        min_age: float = 0.0,
    ) -> None:
        """Build it from its parts.

        Args:
            pool: of connections to the database.
            router: finds an event's messages.
            publisher: sends them.
            reject: called with what cannot be published.
            min_age: how long events are left to those who send them behind the commit
                (`domain.messaging.direct`), seconds.
        """
        self._pool = pool
        self._followers = Followers(pool)
        self._router = router
        self._publisher = publisher
        self._reject = reject
        self._min_age = min_age
        self._wanted: dict[int, float] = {}
        self._running: asyncio.Task[None] | None = None

    def wake(self, stream_id: str | None = None) -> None:
        """Publish as soon as may be, without waiting for it; calls until then lead to one run.

        Args:
            stream_id: has new events; None: any may have some.
        """
        parts = ALL if stream_id is None else (part_of(stream_id),)
        self._wanted |= dict.fromkeys(parts, time.monotonic() + self._min_age)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run_while_wanted(), name="relay")

    async def _run_while_wanted(self) -> None:
        if self._min_age:
            await asyncio.sleep(self._min_age)
        while self._wanted:
            now = time.monotonic()
            parts = [*self._wanted]
            # Those with events that are too young yet are looked at again.
            self._wanted = {part: due for part, due in self._wanted.items() if due > now}
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
            await asyncio.sleep(self._min_age or PAUSE_SECONDS)

    async def run_until_caught_up(
        self,
        parts: Collection[int] = ALL,
        seconds: float = RUN_SECONDS,
        min_age: float | None = None,
    ) -> int:
        """Publish what is committed in ``parts`` and no other process is publishing.

        With writers all the time there is always more.

        Args:
            parts: of the log.
            seconds: how long this may take, and a page.
            min_age: other than the relay's own.

        Returns:
            the number of events that it has passed.

        Raises:
            PublishFailed: the bus did not take them; they are published again.
        """
        count = 0
        min_age = self._min_age if min_age is None else min_age
        await self._publisher.open()
        deadline = time.monotonic() + seconds
        while (page := await self._publish_next(parts, min_age)) is not None:
            count += len(page.events)
            if not page.more:
                break
            if time.monotonic() > deadline:
                self.wake()  # goes on, so that this call can end
                break
        return count

    async def _publish_next(self, parts: Collection[int], min_age: float) -> Page | None:
        async with self._followers.next_page(NAME, parts, PAGE, min_age) as page:
            if page is not None:
                sent = await pass_over(page.connection, page.events)
                async with page.kept():
                    left = [record for record in page.events if record.event_id not in sent]
                    await self._publish(left, self._router.messages_due)
                page.save()
        return page

    async def unpublished(self, stream_ids: Collection[str]) -> set[str]:
        """Those of the streams that have events which have yet to be published."""
        return await self._followers.behind(NAME, stream_ids)

    async def purge(self) -> int:
        """Delete notes of what was sent that nobody will ask for any more; how many."""
        return await forget(self._pool)

    async def publish(self, records: Sequence[RecordedEvent]) -> None:
        """Publish all messages of ``records``; one that cannot be published is rejected.

        Of a stream that this release cannot read, only the announcement is sent.
        """
        await self._publish(records, self._router.messages_for)

    async def _publish(
        self,
        records: Sequence[RecordedEvent],
        route: Callable[[RecordedEvent], Awaitable[list[OutgoingMessage]]],
    ) -> None:
        messages: list[OutgoingMessage] = []
        for record in records:
            try:
                messages += await route(record)
            except UnreadableStream as error:
                logger.warning("event %s: its job is held back: %s", record.event_id, error)
                messages.append(self._router.announcement(record))
                await self._reject(record, error)
            except ValueError as error:
                logger.error("event %s cannot be published: %s", record.event_id, error)
                await self._reject(record, error)
        await self._publisher.send(messages)
