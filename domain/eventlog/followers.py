"""Followers of the log: how far each has come in every lane, and who works on which part of them.

The lanes are in `PARTS` parts. To process a part's next events, a process takes it for
`HELD_SECONDS`, which it extends for as long as it works, and gives it back together with the new
positions. If it dies or stands still, another one takes the part when the time is over; what the
former holder does after that is refused. So a follower runs in any number of processes, and needs
no session of the database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch, fetch_over
from domain.database.statements import load_statements
from domain.eventlog import codec
from domain.eventlog.heads import Heads
from domain.eventlog.lanes import LANES, lane_of
from domain.eventlog.models import Lag, LaneLag, RecordedEvent

logger = logging.getLogger(__name__)

_SQL = load_statements(Path(__file__).with_name("followers.sql"))

#: Number of parts, each of as many lanes that lie next to each other.
PARTS = 16
_LANES = LANES // PARTS

ALL = range(PARTS)

#: For how long a part is taken at a time, seconds; then it may be taken from who has not said that
#: it is still at work.
HELD_SECONDS = 10.0

#: A process takes no more parts at a time, so that others find some.
MOST_PARTS = 4


def part_of(stream_id: str) -> int:
    """The part of a stream's lane."""
    return lane_of(stream_id) // _LANES


class HoldLost(RuntimeError):
    """Another process has taken the parts meanwhile; nothing was saved."""


@dataclass(slots=True)
class Page:
    """Events of the parts that this process holds, the next ones of each lane.

    Attributes:
        follower: the follower's name.
        holder: made for this page alone.
        events: ordered by lane and position.
        moved: by lane, the position of the last of them.
        saved: whether `save` was called.
    """

    follower: str
    holder: UUID
    events: Sequence[RecordedEvent] = ()
    moved: Mapping[int, int] = field(default_factory=dict)
    saved: bool = False

    async def save(self, connection: AsyncConnection[Any]) -> None:
        """Record that the events are processed, and give the parts back.

        In a transaction of ``connection``, what it writes besides is committed together with it.

        Raises:
            HoldLost: the transaction must be rolled back.
        """
        params = {**_of(self), "lanes": [*self.moved], "positions": [*self.moved.values()]}
        if not await fetch_over(connection, _SQL["save"], params):
            raise HoldLost(f"{self.follower}: another process has taken its parts")
        self.saved = True


class Followers:
    """The followers of one log."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._begun: set[str] = set()

    @asynccontextmanager
    async def next_page(
        self, follower: str, parts: Collection[int] = ALL, most_events: int = 1000
    ) -> AsyncIterator[Page | None]:
        """Take parts that have unread events, and read some; None if there are none to take.

        Within the context the parts stay taken. At its end they are given back, with nothing
        changed unless `Page.save` was called.

        What others hold at the moment is left to them: having saved, they look once more. So who
        has appended events, and calls this until it gets None, knows that they are processed, or
        will be unless a process dies.

        Args:
            follower: its name; a new one begins at the start of the log.
            parts: the parts in question.
            most_events: of the page.
        """
        if follower not in self._begun:
            await fetch(self._pool, _SQL["begin"], {"follower": follower})
            self._begun.add(follower)
        page, taken = await self._take(follower, parts, most_events)
        if not page.events:
            if taken:  # what was unread has been saved by another one in between
                await self._give_back(page)
            yield None
            return
        renewing = asyncio.create_task(self._renew(page), name=f"hold-{follower}")
        try:
            yield page
        except BaseException:
            page.saved = False  # or rolled back
            raise
        finally:
            renewing.cancel()
            if not page.saved:
                await asyncio.shield(self._give_back(page))

    async def lag(self, follower: str) -> Lag:
        """How far a follower is behind."""
        rows = await fetch(self._pool, _SQL["lag"], {"follower": follower})
        return Lag({lane: LaneLag(events, max(seconds, 0.0)) for lane, events, seconds in rows})

    async def heads(self, follower: str) -> Heads:
        """How far a follower has come; the start of the log for a new one."""
        read = dict(await fetch(self._pool, _SQL["positions"], {"follower": follower}))
        nothing = [0] * _LANES
        return Heads(tuple(position for part in ALL for position in read.get(part, nothing)))

    async def behind(self, follower: str, stream_ids: Collection[str]) -> set[str]:
        """Those of the streams that have events which a follower has not processed."""
        params = {"follower": follower, "stream_ids": [*stream_ids]}
        return {stream_id for (stream_id,) in await fetch(self._pool, _SQL["behind"], params)}

    async def moved(self) -> Mapping[str, datetime]:
        """When each follower has last moved."""
        return dict(await fetch(self._pool, _SQL["moved"], {}))

    async def _take(
        self, follower: str, parts: Collection[int], most_events: int
    ) -> tuple[Page, bool]:
        page = Page(follower, uuid4())
        params = {
            **_of(page),
            "parts": [*parts],
            "most_parts": MOST_PARTS,
            "most_events": most_events,
            "per_lane": max(most_events // 2, 1),
        }
        rows = await fetch(self._pool, _SQL["claim"], params)
        # A part of which nothing was read has one row without an event.
        read = [row for row in rows if row[-1] is not None]
        page.events = codec.decode_all(row[1:-2] for row in read)
        page.moved = {lane: position for *_, position, lane in read}
        return page, bool(rows)

    async def _renew(self, page: Page) -> None:
        """Keep the parts for as long as the process works on them."""
        while True:
            await asyncio.sleep(HELD_SECONDS / 3)
            try:
                await fetch(self._pool, _SQL["renew"], _of(page))
            except psycopg.Error as error:
                logger.warning("%s: its parts are not renewed: %s", page.follower, error)

    async def _give_back(self, page: Page) -> None:
        try:
            await fetch(self._pool, _SQL["release"], _of(page))
        except psycopg.Error as error:
            logger.warning("%s: its parts are not given back yet: %s", page.follower, error)


def _of(page: Page) -> dict[str, Any]:
    return {"follower": page.follower, "holder": page.holder, "seconds": HELD_SECONDS}
