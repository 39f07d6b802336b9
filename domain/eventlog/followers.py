"""Followers of the log: how far each has come in every lane, and who works on which part of them.

The lanes are in `PARTS` parts, each with a row. To process a part's next events, a process locks
the row in a transaction, and writes the new positions in the same one. If it dies, the server ends
the transaction; if it stands still, after `HELD_SECONDS`. Then another one takes the part, and what
the former holder writes after that is refused. So a follower runs in any number of processes, and
needs no session of the database, but transactions alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import Borrowed, fetch
from domain.database.statements import load_statements
from domain.eventlog import codec
from domain.eventlog.heads import Heads
from domain.eventlog.lanes import LANES, lane_of
from domain.eventlog.models import Lag, LaneLag, RecordedEvent

_SQL = load_statements(Path(__file__).with_name("followers.sql"))

#: Number of parts, each of as many lanes that lie next to each other.
PARTS = 16
_LANES = LANES // PARTS

ALL = range(PARTS)

#: For how long a holder may be silent, seconds.
HELD_SECONDS = 10.0

#: A page may take so long, seconds; since PostgreSQL 17.
PAGE_SECONDS = 120.0

#: After so long, rows that somebody has removed are made again. Seconds.
_BEGUN_SECONDS = 30.0

#: A process takes no more parts at a time, so that others find some.
MOST_PARTS = 4


def part_of(stream_id: str) -> int:
    """The part of a stream's lane."""
    return lane_of(stream_id) // _LANES


@dataclass(slots=True)
class Page:
    """Events of parts that this process holds, the next ones of each lane.

    Attributes:
        follower: the follower's name.
        connection: in the transaction that holds the parts.
        events: ordered by lane and position.
        moved: by lane, the position of the last of them.
        saved: whether `save` was called.
        more: after the end of the context, whether the parts asked for have more events to read.
    """

    follower: str
    connection: AsyncConnection[Any]
    events: Sequence[RecordedEvent]
    moved: Mapping[int, int]
    saved: bool = False
    more: bool = True

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the parts while the block does something that takes time outside of the database.

        It must not use the connection.
        """
        done = asyncio.Event()
        keeping = asyncio.create_task(self._keep(done), name=f"hold-{self.follower}")
        try:
            yield
        finally:
            done.set()  # a statement that were cancelled would undo the transaction
            await asyncio.gather(keeping, return_exceptions=True)

    def save(self) -> None:
        """Have it recorded, at the end of the context, that the events are processed."""
        self.saved = True

    async def _keep(self, done: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), HELD_SECONDS / 3)
                return
            await self.connection.execute("select")


class Followers:
    """The followers of one log."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._begun: dict[str, float] = {}

    @asynccontextmanager
    async def next_page(
        self,
        follower: str,
        parts: Collection[int] = ALL,
        most_events: int = 1000,
        min_age: float = 0.0,
    ) -> AsyncIterator[Page | None]:
        """Hold parts that have unread events, and read some; None if there are none to hold.

        The parts are held by a transaction. At the end of the context, if `Page.save` was called,
        it is committed with what was written in it and the new positions; else it is rolled back.

        What others hold at the moment is left to them: when they are done, they look once more. So
        who has appended events, and calls this until it gets None or there are no `Page.more`,
        knows that they are processed, or will be unless a process dies.

        Args:
            follower: its name; a new one begins at the start of the log.
            parts: the parts in question.
            most_events: of the page.
            min_age: younger events are left for later, seconds by the database's clock.

        Raises:
            psycopg.Error: at the end, if the transaction was ended before, because this process
                stood still or was cut off; others may have processed the events.
        """
        now = time.monotonic()
        if now - self._begun.get(follower, -math.inf) > _BEGUN_SECONDS:
            await fetch(self._pool, _SQL["begin"], {"follower": follower})
            self._begun[follower] = now
        params = {
            "follower": follower,
            "idle": f"{HELD_SECONDS:g}s",
            "most": f"{PAGE_SECONDS:g}s",
            "parts": [*parts],
            "most_parts": MOST_PARTS,
            "most_events": most_events,
            "per_lane": max(most_events // 2, 1),
            "min_age": min_age,
        }
        async with Borrowed(self._pool) as connection:
            page = None
            try:
                if rows := await _take(connection, params):
                    rows = [*_aged(rows)]
                    events = codec.decode_all(row[:-3] for row in rows)
                    moved = {lane: position for *_, position, lane, _ in rows}
                    page = Page(follower, connection, events, moved)
                    yield page
                    if page.saved:
                        await _commit(page, params)
            finally:
                if not connection.closed:
                    await connection.rollback()
        if page is None:
            yield None

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


async def _take(connection: AsyncConnection[Any], params: Mapping[str, Any]) -> list[Any]:
    """Begin the transaction that holds parts; the page's rows.

    Without a pipeline: after one, the server does not notice a client that is silent (its last
    message is a request to flush, after which PostgreSQL 18 does not start that clock again).
    """
    await connection.execute(_SQL["hold"])
    cursor = await connection.execute(_SQL["take"], params, binary=True)
    rows = await cursor.fetchall()
    if not rows:
        await connection.execute(_SQL["commit"])  # a rollback would forget prepared statements
    return rows


def _aged(rows: Sequence[Any]) -> Iterator[Any]:
    """Of each lane the rows before the first that is too young."""
    young: int | None = None
    for row in rows:
        lane, aged = row[-2:]
        if not aged:
            young = lane
        if lane != young:
            yield row


async def _commit(page: Page, params: Mapping[str, Any]) -> None:
    """Write the new positions, commit, and look once more. One round trip."""
    moved = {"lanes": [*page.moved], "positions": [*page.moved.values()]}
    async with page.connection.pipeline():
        await page.connection.execute(_SQL["save"], {"follower": page.follower, **moved})
        await page.connection.execute(_SQL["commit"])
        cursor = await page.connection.execute(_SQL["more"], params)
        [(page.more,)] = await cursor.fetchall()
