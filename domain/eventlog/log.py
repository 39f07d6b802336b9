"""The event log: append to streams, read them, follow everything in a safe order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg_pool import AsyncConnectionPool

from domain.database import fetch
from domain.eventlog import codec
from domain.eventlog.models import (
    AppendResult,
    Checkpoint,
    EventIdTaken,
    EventLogError,
    InlineWrite,
    InvalidEvent,
    Lag,
    NewEvent,
    RecordedEvent,
    StreamInfo,
    StreamOfAnotherTenant,
    WrongExpectedVersion,
)
from domain.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("log.sql"))

MAX_LIMIT = 10_000

#: `EventLog.lag` counts no further than this.
MAX_COUNTED = 100_000


#: transaction id, time of recording, positions
_Outcome = tuple[Any, ...]

#: SQLSTATE of a repeated command; the others are in `_meaning`.
_RECORDED_BEFORE = "QL001"


class EventLog:
    """The log over a pool of `domain.database.open_pool`."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

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
        """Append the events of one command and run ``inline``, all in one transaction or nothing.

        One network round trip and one commit. A command that was recorded in this stream before
        gives its first outcome; nothing is written then.

        Args:
            stream_id: 1 to 200 characters; the first append to it makes the stream.
            tenant_id: who owns the stream.
            expected_version: of the stream's last event; 0 for a new stream.
            command_id: what is done once.
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
        encoded = codec.encode(events)
        params = {
            "stream_id": stream_id,
            "tenant_id": tenant_id,
            "expected_version": expected_version,
            "command_id": command_id,
            "metadata": codec.encode_object(metadata, "metadata"),
        }
        append = _statement(params, encoded)
        async with self._pool.connection() as connection:
            try:
                outcome = await _append(connection, append, inline)
            except psycopg.Error as error:
                if error.sqlstate != _RECORDED_BEFORE:
                    raise _meaning(error, params) from error
                return AppendResult(await _of_command(connection, params), duplicate=True)
        return AppendResult(_recorded(outcome, params, encoded), duplicate=False)

    async def read_stream(
        self, stream_id: str, after_version: int = 0, limit: int = 1000
    ) -> list[RecordedEvent]:
        """At most ``limit`` events of a stream after ``after_version``, in order."""
        params = {"stream_id": stream_id, "after_version": after_version, "limit": _limit(limit)}
        return [codec.decode(row) for row in await fetch(self._pool, _SQL["read_stream"], params)]

    async def read_all(self, after: Checkpoint, limit: int = 1000) -> list[RecordedEvent]:
        """At most ``limit`` events of all streams after a checkpoint, in the log's order.

        Complete up to the last one returned: an event committed later sorts after it. Empty: the
        end for now. Pages of about 1,000 are the fastest.
        """
        params = {
            "transaction_id": str(after.transaction_id),
            "position": after.position,
            "limit": _limit(limit),
        }
        rows = await fetch(self._pool, _SQL["read_all"], params)
        if not rows and await self.settle():
            rows = await fetch(self._pool, _SQL["read_all"], params)
        return [codec.decode(row) for row in rows]

    async def settle(self) -> bool:
        """Adopt the log if it was restored into another cluster; see the first migration.

        Returns:
            whether the server had been started since the last look.
        """
        [[needed]] = await fetch(self._pool, _SQL["settle"], {})
        return bool(needed)

    async def head(self) -> Checkpoint:
        """The checkpoint of the last readable event."""
        await self.settle()
        rows = await fetch(self._pool, _SQL["head"], {})
        return Checkpoint(*rows[0]) if rows else Checkpoint.start()

    async def lag(self, checkpoint: Checkpoint) -> Lag:
        """How far a follower at ``checkpoint`` is behind."""
        await self.settle()
        params = {
            "transaction_id": str(checkpoint.transaction_id),
            "position": checkpoint.position,
            "limit": MAX_COUNTED,
        }
        [(events, seconds, held)] = await fetch(self._pool, _SQL["lag"], params)
        return Lag(events, seconds or 0.0, held or 0.0)

    async def streams(
        self, tenant_id: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> list[StreamInfo]:
        """Streams in the order of their ids, after the stream id ``cursor``."""
        params = {"tenant_id": tenant_id, "after": cursor or "", "limit": _limit(limit)}
        name = "streams" if tenant_id is None else "streams_of_tenant"
        return [StreamInfo(*row) for row in await fetch(self._pool, _SQL[name], params)]


def _statement(params: dict[str, Any], encoded: codec.EncodedEvents) -> InlineWrite:
    if len(encoded.data) > 1:
        return InlineWrite(_SQL["append"], params | encoded._asdict())
    one = {
        "event_id": encoded.event_ids[0],
        "type": encoded.types[0],
        "schema_version": encoded.schema_versions[0],
        "data": encoded.data[0],
    }
    return InlineWrite(_SQL["append_one"], params | one)


async def _append(
    connection: AsyncConnection[Any], append: InlineWrite, inline: Sequence[InlineWrite]
) -> _Outcome:
    if not inline:
        cursor = await connection.execute(append.statement, append.params, binary=True)
        return await _only_row(cursor)
    # Up to its end a pipeline on an autocommit connection is one transaction: the first failing
    # statement undoes those before it and skips those after it.
    async with connection.pipeline():
        cursor = await connection.execute(append.statement, append.params, binary=True)
        for write in inline:
            await connection.execute(write.statement, write.params)
    return await _only_row(cursor)


async def _only_row(cursor: AsyncCursor[Any]) -> _Outcome:
    [row] = await cursor.fetchall()
    return tuple(row)


def _recorded(
    outcome: _Outcome, params: dict[str, Any], encoded: codec.EncodedEvents
) -> list[RecordedEvent]:
    """What reading the appended events back would give."""
    transaction_id, recorded_at, positions = outcome
    recorded = []
    columns = zip(positions, *encoded, strict=True)
    for version, (position, event_id, type_, schema_version, data) in enumerate(
        columns, params["expected_version"] + 1
    ):
        event = (position, transaction_id, event_id, params["stream_id"], version, type_)
        command = (schema_version, params["tenant_id"], params["command_id"], recorded_at)
        recorded.append(codec.decode((*event, *command, params["metadata"], data)))
    return recorded


def _meaning(error: psycopg.Error, params: dict[str, Any]) -> Exception:
    stream_id, expected = params["stream_id"], params["expected_version"]
    match error.sqlstate:
        case "QL002":
            return WrongExpectedVersion(stream_id, expected, int(error.diag.message_detail or 0))
        case "QL003":
            return StreamOfAnotherTenant(f"stream {stream_id!r} belongs to another tenant")
        case "QL004":
            return EventLogError("append must be the first write of its transaction")
        case "22P02" if "append_events" in (error.diag.context or ""):
            return InvalidEvent("data: the bytes are not JSON")
        case "23505" if error.diag.constraint_name == "events_event_id":
            return EventIdTaken(f"an event id of command {params['command_id']} is taken")
    return error


async def _of_command(
    connection: AsyncConnection[Any], params: dict[str, Any]
) -> list[RecordedEvent]:
    cursor = await connection.execute(_SQL["of_command"], params, binary=True)
    return [codec.decode(row) for row in await cursor.fetchall()]


def _limit(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit: {limit}, allowed are 1 to {MAX_LIMIT}")
    return limit
