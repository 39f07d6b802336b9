"""Applies a batch of events to a projection, inside the caller's transaction.

Events that were applied before are recognised by their stream's mark, so a batch can be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import AsyncConnection, sql
from psycopg import errors as pg

from domain.database.statements import load_statements
from domain.eventlog.intent_streams import typed
from domain.eventlog.models import RecordedEvent
from domain.intents.events import POISON
from domain.projections.following.contract import Projection, StreamEvent
from domain.projections.following.parked import park

logger = logging.getLogger(__name__)

_SQL = load_statements(Path(__file__).with_name("batch.sql"))

MAX_ERROR = 1_000


class Mark(NamedTuple):
    """How far a projection has processed a stream."""

    version: int
    started_at: datetime


class MissingEvents(ValueError):
    """Events of a stream are missing before this one."""


async def apply_batch(
    connection: AsyncConnection[Any],
    projection: Projection[Any],
    records: Sequence[RecordedEvent],
) -> None:
    """Apply ``records`` to the tables of ``projection`` that the search path finds.

    A stream with an event that cannot be applied is parked from that event on, with the error;
    later events of parked streams are skipped.

    Args:
        connection: in a transaction, which the caller commits together with the checkpoint.
        projection: the projection to update.
        records: events, those of each stream in their order.
    """
    try:
        async with connection.transaction():
            await _apply(connection, projection, records)
    except (pg.DataError, pg.IntegrityError):
        for record in records:  # one by one, to find the one that the database refuses
            try:
                async with connection.transaction():
                    await _apply(connection, projection, [record])
            except (pg.DataError, pg.IntegrityError) as error:
                await _park(connection, projection, record, error)


async def _apply(
    connection: AsyncConnection[Any],
    projection: Projection[Any],
    records: Sequence[RecordedEvent],
) -> None:
    stream_ids = [*{record.stream_id for record in records}]
    parked = await _parked(connection, projection, stream_ids)
    marks = await _marks(connection, projection, stream_ids)
    moved: dict[str, Mark] = {}
    changes: list[Any] = []
    for record in records:
        stream_id = record.stream_id
        mark = marks.get(stream_id) or Mark(0, record.recorded_at)
        if stream_id in parked or record.version <= mark.version:
            continue
        try:
            if record.version != mark.version + 1:
                raise MissingEvents(f"version {record.version} came after {mark.version}")
            change = projection.fold(StreamEvent(record, typed(record), mark.started_at))
        except POISON as error:
            parked.add(stream_id)
            await _park(connection, projection, record, error)
            continue
        marks[stream_id] = moved[stream_id] = Mark(record.version, mark.started_at)
        if change is not None:
            changes.append(change)
    async with connection.pipeline():
        for write in projection.writes(changes):
            await connection.execute(write.statement, write.params)
        await connection.execute(
            _of(projection, "mark"),
            {
                "stream_ids": [*moved],
                "versions": [mark.version for mark in moved.values()],
                "started": [mark.started_at for mark in moved.values()],
            },
        )


async def mark_of(
    connection: AsyncConnection[Any], projection: Projection[Any], stream_id: str
) -> int:
    """The version up to which ``projection`` has processed a stream; 0 if it has not."""
    marks = await _marks(connection, projection, [stream_id])
    return marks[stream_id].version if stream_id in marks else 0


async def _marks(
    connection: AsyncConnection[Any], projection: Projection[Any], stream_ids: list[str]
) -> dict[str, Mark]:
    rows = await connection.execute(_of(projection, "marks"), {"stream_ids": stream_ids})
    return {stream_id: Mark(*mark) for stream_id, *mark in await rows.fetchall()}


async def _parked(
    connection: AsyncConnection[Any], projection: Projection[Any], stream_ids: list[str]
) -> set[str]:
    params = {"projection": projection.name, "stream_ids": stream_ids}
    rows = await connection.execute(_SQL["parked"], params)
    return {stream_id for (stream_id,) in await rows.fetchall()}


async def _park(
    connection: AsyncConnection[Any],
    projection: Projection[Any],
    record: RecordedEvent,
    error: Exception,
) -> None:
    logger.error(
        *("%s cannot take event %s: %s is parked", projection.name, record.event_id),
        record.stream_id,
    )
    at = (record.stream_id, record.version, record.event_id)
    await park(connection, projection.name, *at, describe(error))


def describe(error: Exception) -> str:
    """``error`` for operators, without the database's details, which may be personal data."""
    if isinstance(error, pg.Error):
        text = error.diag.message_primary or type(error).__name__
    else:
        text = str(error)
    return f"{type(error).__name__}: {text}".replace("\x00", "\N{REPLACEMENT CHARACTER}")[
        :MAX_ERROR
    ]


def _of(projection: Projection[Any], statement: str) -> sql.Composed:
    template = sql.SQL(_SQL[statement].decode())
    return template.format(streams=sql.Identifier(f"{projection.name}_streams"))
