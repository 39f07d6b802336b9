"""The event log: append to streams, read them, follow everything in a safe order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog import codec
from domain.eventlog.appending import Command
from domain.eventlog.group_commit import GroupCommit
from domain.eventlog.heads import Heads
from domain.eventlog.lanes import LANES
from domain.eventlog.models import (
    AppendResult,
    InlineWrite,
    InvalidEvent,
    NewEvent,
    RecordedEvent,
    StreamInfo,
)

_SQL = load_statements(Path(__file__).with_name("log.sql"))

MAX_LIMIT = 10_000


class EventLog:
    """The event log, over a pool from `domain.database.pool.open_pool`."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._appends = GroupCommit(pool)

    async def append(
        self,
        stream_id: str,
        tenant_id: str,
        expected_version: int,
        command_id: UUID,
        events: Sequence[NewEvent],
        metadata: dict[str, Any],
        inline: Sequence[InlineWrite] = (),
    ) -> AppendResult:
        """Append the events of one command and run ``inline``, in one transaction.

        Takes one network round trip and one commit, which concurrent appends share. If the command
        was recorded in this stream before, nothing is written and its first outcome is returned.

        Args:
            stream_id: 1 to 200 characters; the first append creates the stream.
            tenant_id: the owner of the stream.
            expected_version: the version of the stream's last event; 0 for a new stream.
            command_id: identifies the command, which is recorded once.
            events: 1 to `codec.MAX_EVENTS`.
            metadata: a JSON object recorded with each event.
            inline: writes to projections that must not lag behind.

        Raises:
            WrongExpectedVersion: the stream is at another version.
            StreamOfAnotherTenant: it belongs to another tenant.
            EventIdTaken: an event id was used before, under another command.
            InvalidEvent: the events cannot be recorded.
            psycopg.Error: an inline write failed, or the database did.
        """
        if not 1 <= len(stream_id) <= codec.MAX_STREAM_ID or "\x00" in stream_id:
            raise InvalidEvent(f"stream_id: 1 to {codec.MAX_STREAM_ID} characters, without NUL")
        command = Command(
            stream_id,
            tenant_id,
            expected_version,
            command_id,
            codec.encode_object(metadata, "metadata"),
            codec.encode(events),
            inline,
        )
        return await self._appends.append(command)

    async def read_stream(
        self, stream_id: str, after_version: int = 0, limit: int = 1000
    ) -> list[RecordedEvent]:
        """At most ``limit`` events of a stream after ``after_version``, in order."""
        params = {"stream_id": stream_id, "after_version": after_version, "limit": _limit(limit)}
        return codec.decode_all(await fetch(self._pool, _SQL["read_stream"], params))

    async def event(self, event_id: UUID) -> RecordedEvent | None:
        """The event of this id; None if there is none."""
        rows = await fetch(self._pool, _SQL["event"], {"event_id": event_id})
        return codec.decode(rows[0]) if rows else None

    async def heads(self) -> Heads:
        """The position of the last event in each lane.

        What lies up to there is complete, and all that is committed later comes after it.
        """
        positions = [0] * LANES
        for lane, position in await fetch(self._pool, _SQL["heads"], {}):
            positions[lane] = position
        return Heads(tuple(positions))

    async def read_all(self, after: Heads, limit: int = 1000) -> tuple[list[RecordedEvent], Heads]:
        """At most ``limit`` events after a place, of each lane in its order, and where they end.

        There are none at the current end of the log.
        """
        end = after.step(await self.heads(), _limit(limit))
        return await self.read_between(after, end), end

    async def read_between(self, after: Heads, to: Heads) -> list[RecordedEvent]:
        """All events between two places, by lane, and in each lane in its order."""
        params = after.range_to(to)
        if not params["lanes"]:
            return []
        return codec.decode_all(await fetch(self._pool, _SQL["read_between"], params))

    async def follow(
        self, after: Heads, to: Heads | None = None, limit: int = 1000
    ) -> AsyncGenerator[list[RecordedEvent]]:
        """Pages of at most ``limit`` events up to ``to``, or to what is then the end.

        While the caller works on a page, the server prepares the next one. Two pages are in memory,
        and a connection of the pool is in use, or two. A caller that stops early must close the
        iterator, as with `contextlib.aclosing`.
        """
        to = await self.heads() if to is None else to
        pages: deque[asyncio.Task[list[RecordedEvent]]] = deque()
        try:
            while pages or not after.reaches(to):
                while len(pages) < 2 and not after.reaches(to):
                    next_ = after.step(to, _limit(limit))
                    pages.append(asyncio.create_task(self.read_between(after, next_)))
                    after = next_
                await asyncio.sleep(0)  # sends the request before the caller works on the page
                yield await pages[0]
                pages.popleft()
        finally:
            for reading in pages:
                reading.cancel()
            await asyncio.gather(*pages, return_exceptions=True)

    async def writable(self) -> bool:
        """Whether the server accepts writes: it is neither a standby nor set to read-only."""
        [[writable]] = await fetch(self._pool, _SQL["writable"], {})
        return bool(writable)

    async def streams(
        self, tenant_id: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> list[StreamInfo]:
        """Streams ordered by id, after the stream id ``cursor``."""
        params = {"tenant_id": tenant_id, "after": cursor or "", "limit": _limit(limit)}
        name = "streams" if tenant_id is None else "streams_of_tenant"
        return [StreamInfo(*row) for row in await fetch(self._pool, _SQL[name], params)]


def _limit(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit: {limit}, allowed are 1 to {MAX_LIMIT}")
    return limit
