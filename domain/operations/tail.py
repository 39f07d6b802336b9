"""Shows events to an operator as they are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import datetime

from psycopg_pool import AsyncConnectionPool

from domain.eventlog.digests import StoredEvent
from domain.eventlog.heads import Heads
from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.scan import Filter, LogScanner

#: How often an idle tail looks for new events, seconds.
POLL_SECONDS = 0.25


class Tail:
    """Yields events, each once, until it is stopped or nobody reads them any more."""

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
        """All streams: those events in order of time that are there when it looks."""
        after = Heads.start() if from_start else await self._log.heads()
        while not self._stopped.is_set():
            to = await self._log.heads()
            if after.reaches(to):
                await self._pause()
            async for part in self._scanner.parts(after, to, wanted):
                for event in in_time(part):
                    yield event
                if self._stopped.is_set():
                    return
            after = to

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


def in_time(events: Iterable[StoredEvent]) -> list[StoredEvent]:
    """Events, which come in the order of each lane, by time; those of a lane stay in its order."""
    latest: dict[int, datetime] = {}
    timed = []
    for event in events:
        lane = lane_of(event.stream_id)
        latest[lane] = max(event.recorded_at, latest.get(lane, event.recorded_at))
        timed.append((latest[lane], event))
    return [event for _, event in sorted(timed, key=lambda each: each[0])]
