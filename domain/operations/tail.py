"""Shows events to an operator as they are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from psycopg_pool import AsyncConnectionPool

from domain.eventlog.digests import StoredEvent
from domain.eventlog.log import EventLog
from domain.eventlog.models import Checkpoint
from domain.eventlog.scan import Filter, LogScanner

#: How often an idle tail looks for new events, seconds.
POLL_SECONDS = 0.25


class Tail:
    """Yields events, each once, until it is stopped or nobody reads them any more.

    As with every follower, an event appears as soon as none can come before it any more.
    """

    def __init__(self, pool: AsyncConnectionPool, abandoned: Callable[[], bool]) -> None:
        """``abandoned`` says whether nobody reads any more; called while there are no events."""
        self._abandoned = abandoned
        self._scanner = LogScanner(pool)
        self._log = EventLog(pool)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End after the events that have been read already."""
        self._stopped.set()

    async def log(self, wanted: Filter, *, from_start: bool) -> AsyncGenerator[StoredEvent, None]:
        """All streams, in the log's order."""
        after = Checkpoint.start() if from_start else await self._log.head()
        while not self._stopped.is_set():
            part = await self._scanner.part(after, wanted)
            if part is None:
                await self._pause()
                continue
            after = part.end
            for event in part.events:
                yield event

    async def stream(
        self, stream_id: str, wanted: Filter, *, after_version: int | None
    ) -> AsyncGenerator[StoredEvent, None]:
        """One stream after a version; None: only events from now on."""
        after = after_version
        if after is None:
            after = await self._scanner.stream_version(stream_id)
        while not self._stopped.is_set():
            events = await self._scanner.stream(stream_id, after, wanted)
            for event in events:
                after = event.version
                yield event
            if not events:
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._stopped.wait()
        except TimeoutError:
            if self._abandoned():
                self.stop()
