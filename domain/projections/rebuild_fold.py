"""Folds whole streams to rows of the read model of intents, for rebuilds and verification."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from domain.eventlog import codec
from domain.eventlog.models import RecordedEvent
from domain.intents.state import IntentState, evolve
from domain.projections.intents import IntentRow
from domain.projections.runner_batch import POISON, describe
from domain.repository import intent_of, row_of, typed
from domain.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("rebuild_fold.sql"))

#: Events that are in memory at once.
PAGE = 1_000


class Unfoldable(NamedTuple):
    """A stream of an intent that cannot be folded, the event at which it fails, and why."""

    intent_id: UUID
    stream_id: str
    version: int
    event_id: UUID
    error: str


@dataclass(slots=True)
class StreamFold:
    """One stream on its way to a row."""

    stream_id: str
    version: int = 0
    state: IntentState | None = None
    failed_at: RecordedEvent | None = None
    error: str = ""

    def take(self, record: RecordedEvent) -> None:
        """Fold the stream's next event; after one that cannot be taken, pass over the rest."""
        self.version = record.version
        if self.failed_at is not None:
            return
        try:
            self.state = evolve(self.state, typed(record))
        except POISON as error:
            self.failed_at, self.error = record, describe(error)

    def row(self) -> IntentRow | None:
        """The intent's row; None where the stream cannot be folded."""
        return row_of(self.state) if self.state is not None and self.failed_at is None else None

    def unfoldable(self) -> Unfoldable | None:
        """What is wrong; None if nothing is, or the stream is not that of an intent."""
        if self.failed_at is None:
            return None
        try:
            intent_id = intent_of(self.stream_id)
        except ValueError:
            return None
        event = self.failed_at
        return Unfoldable(intent_id, self.stream_id, event.version, event.event_id, self.error)


@dataclass(slots=True)
class FoldedRange:
    """Consecutive streams, folded; ``events``: how many they have."""

    rows: list[IntentRow] = field(default_factory=list)
    unfoldable: list[Unfoldable] = field(default_factory=list)
    events: int = 0

    def add(self, fold: StreamFold) -> None:
        """Take in a stream that was folded to its end."""
        self.events += fold.version
        if (row := fold.row()) is not None:
            self.rows.append(row)
        elif (failed := fold.unfoldable()) is not None:
            self.unfoldable.append(failed)


def fold_range(url: str, after: str, to: str) -> FoldedRange:
    """Fold the streams after one id up to and with another, over a connection of its own.

    For a thread: it takes Python's time, and the event loop has other things to do.
    """
    folded = FoldedRange()
    with psycopg.connect(url, autocommit=True, application_name="qlp-rebuild-fold") as connection:
        for fold in _folds(map(codec.decode, _read(connection, after, to))):
            folded.add(fold)
    return folded


def _read(
    connection: psycopg.Connection[tuple[Any, ...]], after: str, to: str
) -> Iterator[tuple[Any, ...]]:
    key: tuple[str, int] = (after, 2**31 - 1)
    while True:
        params = {"stream_id": key[0], "version": key[1], "to": to, "limit": PAGE}
        page = connection.execute(_SQL["range"], params, binary=True).fetchall()
        yield from page
        if len(page) < PAGE:
            return
        key = (page[-1][3], page[-1][4])


def _folds(records: Iterable[RecordedEvent]) -> Iterator[StreamFold]:
    for stream_id, stream in groupby(records, key=lambda record: record.stream_id):
        fold = StreamFold(stream_id)
        for record in stream:
            fold.take(record)
        yield fold


async def folded_streams(
    connection: AsyncConnection[Any], stream_ids: list[str]
) -> AsyncIterator[StreamFold]:
    """The streams of these ids, each folded to its end; those without events are left out."""
    cursor = await connection.execute(_SQL["of_streams"], {"stream_ids": stream_ids}, binary=True)
    for fold in _folds(map(codec.decode, await cursor.fetchall())):
        yield fold
