"""Parked streams, which a projection cannot process for now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.intents.events import REGISTRY

_SQL = load_statements(Path(__file__).with_name("parked.sql"))

MAX_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class ParkedStream:
    """A stream that is skipped from the event ``from_version`` on, until ``error`` is fixed."""

    projection: str
    stream_id: str
    from_version: int
    event_id: UUID
    error: str
    parked_at: datetime


async def parked_streams(
    pool: AsyncConnectionPool, projection: str | None = None, limit: int = MAX_LISTED
) -> list[ParkedStream]:
    """Parked streams of one projection or of all, oldest first."""
    params = {"projection": projection, "limit": min(limit, MAX_LISTED)}
    return [ParkedStream(*row) for row in await fetch(pool, _SQL["list"], params)]


async def parked_counts(pool: AsyncConnectionPool) -> dict[str, int]:
    """The number of parked streams by projection; projections without any are left out."""
    return dict(await fetch(pool, _SQL["counts"], {}))


async def readable_again(pool: AsyncConnectionPool, projection: str) -> list[str]:
    """Streams that an earlier release parked at an event that this release can read."""
    rows = await fetch(pool, _SQL["newer"], {"projection": projection})
    return [stream_id for stream_id, *event in rows if REGISTRY.reads(*event)]


async def parked_stream(
    connection: AsyncConnection[Any], projection: str, stream_id: str
) -> ParkedStream | None:
    """The parked stream; None if the stream is not parked."""
    params = {"projection": projection, "stream_id": stream_id}
    row = await (await connection.execute(_SQL["get"], params)).fetchone()
    return ParkedStream(*row) if row else None


async def park(
    connection: AsyncConnection[Any],
    projection: str,
    stream_id: str,
    from_version: int,
    event_id: UUID,
    error: str,
) -> None:
    """Park a stream from an event on; replaces the entry of a stream that is parked already."""
    params = {
        "projection": projection,
        "stream_id": stream_id,
        "from_version": from_version,
        "event_id": event_id,
        "error": error,
    }
    await connection.execute(_SQL["park"], params)


async def unpark(connection: AsyncConnection[Any], projection: str, stream_id: str) -> None:
    """Let the projection process the stream again."""
    params = {"projection": projection, "stream_id": stream_id}
    await connection.execute(_SQL["unpark"], params)


async def built_by(connection: AsyncConnection[Any], projection: str) -> int | None:
    """The version of the code that built the live tables of a projection."""
    row = await (await connection.execute(_SQL["built_by"], {"name": projection})).fetchone()
    return row[0] if row else None
