"""Folds whole streams into rows of the read model of intents, for rebuilds and verification."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection, AsyncCopy
from psycopg.abc import Buffer
from psycopg.copy import AsyncWriter

from domain.database.pool import fetch_over
from domain.database.statements import load_statements
from domain.eventlog.intent_streams import intent_of
from domain.intents.events import POISON, revive
from domain.intents.evolve import CorruptStream, evolve
from domain.intents.state import IntentState
from domain.projections.following.batch import describe
from domain.projections.intent_row import row_of
from domain.projections.intents import COLUMN_TYPES, IntentRow, columns_of

_SQL = load_statements(Path(__file__).with_name("stream_folds.sql"))

#: Events read at once; two pages are in memory.
PAGE = 1_000


class StreamedEvent(NamedTuple):
    """The fields of an event that folding needs; ``data`` is JSON."""

    stream_id: str
    version: int
    event_id: UUID
    type: str
    schema_version: int
    data: str


class Unfoldable(NamedTuple):
    """An intent's stream that cannot be folded, the event at which it fails, and the error."""

    intent_id: UUID
    stream_id: str
    version: int
    event_id: UUID
    error: str


@dataclass(slots=True)
class StreamFold:
    """The fold of one stream, event by event."""

    stream_id: str
    version: int = 0
    state: IntentState | None = None
    failed_at: StreamedEvent | None = None
    error: str = ""

    def take(self, row: Sequence[Any]) -> None:
        """Fold the stream's next event, a row with the columns of `StreamedEvent`.

        After an event that cannot be folded, the rest are ignored.
        """
        before = self.version
        _, self.version, _, type_, schema_version, data = row
        if self.failed_at is not None:
            return
        try:
            if self.version != before + 1:
                raise CorruptStream(f"event {before + 1} is missing")
            self.state = evolve(self.state, revive(type_, schema_version, data))
        except POISON as error:
            self.failed_at, self.error = StreamedEvent._make(row), describe(error)

    def row(self) -> IntentRow | None:
        """The intent's row; None if the stream cannot be folded."""
        return row_of(self.state) if self.state is not None and self.failed_at is None else None

    def unfoldable(self) -> Unfoldable | None:
        """The failure; None if there is none, or the stream is not an intent's."""
        if self.failed_at is None:
            return None
        try:
            intent_id = intent_of(self.stream_id)
        except ValueError:
            return None
        event = self.failed_at
        return Unfoldable(intent_id, self.stream_id, event.version, event.event_id, self.error)


@dataclass(frozen=True, slots=True)
class FoldedLanes:
    """The folds of the streams of some lanes.

    Attributes:
        rows: the intents' rows, in the form of ``copy … from stdin (format binary)``.
        unfoldable: streams without a row.
        events: the number of events in all streams.
    """

    rows: bytes
    unfoldable: list[Unfoldable]
    events: int


async def fold_lanes(connection: AsyncConnection[Any], first: int, end: int) -> FoldedLanes:
    """Fold the streams of lanes ``first`` to ``end`` - 1.

    The server reads the next page while this one is folded.
    """
    unfoldable: list[Unfoldable] = []
    written = _Bytes()
    events = 0
    async with (
        AsyncCopy(connection.cursor(), binary=True, writer=written) as copy,
        aclosing(_pages_of_lanes(connection, first, end)) as pages,
    ):
        copy.set_types(COLUMN_TYPES)
        async for fold in _folds(pages):
            events += fold.version
            if (row := fold.row()) is not None:
                await copy.write_row(columns_of(row))
            elif (failed := fold.unfoldable()) is not None:
                unfoldable.append(failed)
    return FoldedLanes(bytes(written.buffer), unfoldable, events)


class _Bytes(AsyncWriter):
    """Collects the written bytes."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    async def write(self, data: Buffer) -> None:
        self.buffer += data


async def _pages_of_lanes(
    connection: AsyncConnection[Any], first: int, end: int
) -> AsyncGenerator[list[tuple[Any, ...]]]:
    async with connection.transaction(), connection.cursor("lanes", binary=True) as cursor:
        await connection.execute(_SQL["limits"])
        await cursor.execute(_SQL["lanes"], {"first": first, "end": end})
        reading = asyncio.create_task(cursor.fetchmany(PAGE))
        try:
            while page := await reading:
                reading = asyncio.create_task(cursor.fetchmany(PAGE))
                await asyncio.sleep(0)  # sends the request before this page is folded
                yield page
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


_STREAM_ID = itemgetter(StreamedEvent._fields.index("stream_id"))


def folded_streams(
    connection: AsyncConnection[Any], stream_ids: list[str]
) -> AsyncIterator[StreamFold]:
    """The streams of these ids, each folded to its end; empty ones are left out."""
    return _folds(_only_page(connection, stream_ids))


async def _only_page(
    connection: AsyncConnection[Any], stream_ids: list[str]
) -> AsyncIterator[list[tuple[Any, ...]]]:
    yield await fetch_over(connection, _SQL["of_streams"], {"stream_ids": stream_ids})


async def _folds(pages: AsyncIterator[list[tuple[Any, ...]]]) -> AsyncIterator[StreamFold]:
    """The streams in ``pages``, each folded to its end; a stream may span pages."""
    fold: StreamFold | None = None
    async for page in pages:
        for stream_id, rows in groupby(page, key=_STREAM_ID):
            if fold is None or stream_id != fold.stream_id:
                if fold is not None:
                    yield fold
                fold = StreamFold(stream_id)
            for row in rows:
                fold.take(row)
    if fold is not None:
        yield fold
