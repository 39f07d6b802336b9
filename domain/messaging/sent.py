"""Which events' messages were sent behind their commit, as the relay of any process is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import delete_in_steps, fetch, fetch_over
from domain.database.statements import load_statements
from domain.eventlog.models import RecordedEvent

_SQL = load_statements(Path(__file__).with_name("sent.sql"))


async def note(pool: AsyncConnectionPool, event_ids: Sequence[UUID]) -> None:
    """Note events whose messages were sent."""
    await fetch(pool, _SQL["note"], {"event_ids": [*event_ids]})


async def pass_over(
    connection: AsyncConnection[Any], events: Sequence[RecordedEvent]
) -> frozenset[UUID]:
    """Those of the events that were noted; when the transaction commits, they no longer are."""
    params = {"event_ids": [event.event_id for event in events]}
    rows = await fetch_over(connection, _SQL["pass_over"], params)
    return frozenset(event_id for (event_id,) in rows)


async def forget(pool: AsyncConnectionPool) -> int:
    """Delete what the relay will not ask for any more; the number of rows."""
    return await delete_in_steps(pool, _SQL["forget"], {})
