"""Appends commands to the log: one per transaction, or several."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg_pool import AsyncConnectionPool

from domain.database.outages import outage_of
from domain.database.pool import Borrowed, fetch
from domain.database.statements import load_statements
from domain.eventlog import codec
from domain.eventlog.models import (
    AppendResult,
    EventIdTaken,
    InlineWrite,
    InvalidEvent,
    RecordedEvent,
    StreamOfAnotherTenant,
    WrongExpectedVersion,
)

_SQL = load_statements(Path(__file__).with_name("appending.sql"))

#: How long a group, inline writes included, waits for a lock. Shorter than PostgreSQL's
#: deadlock_timeout (a second): inline writes of two groups may lock the same rows in another order.
_GROUP_LOCK_TIMEOUT = "200ms"

#: SQLSTATE of a repeated command; the others are in `_meaning`.
_RECORDED_BEFORE = "QL001"


#: SQLSTATEs of transactions that were rolled back because of a conflict with others, and the pause
#: before each repetition, seconds.
_UNDONE = ("40001", "40P01")
_PAUSES = (0.01, 0.05, 0.2)


class Undone(Exception):
    """Nothing of a group was recorded."""


class Command(NamedTuple):
    """The arguments of `domain.eventlog.log.EventLog.append`, with encoded JSON."""

    stream_id: str
    tenant_id: str
    expected_version: int
    command_id: UUID
    metadata: str
    events: Sequence[codec.EncodedEvent]
    inline: Sequence[InlineWrite]


async def append_alone(pool: AsyncConnectionPool, command: Command) -> AppendResult:
    """Append one command in a transaction of its own; see `domain.eventlog.log.EventLog.append`.

    A transaction that was rolled back because of a conflict is repeated a few times.
    """
    for pause in _PAUSES:
        try:
            return await _append_once(pool, command)
        except psycopg.OperationalError as error:
            if error.sqlstate not in _UNDONE:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 jitter, not a secret
    return await _append_once(pool, command)


async def _append_once(pool: AsyncConnectionPool, command: Command) -> AppendResult:
    try:
        async with Borrowed(pool) as connection:
            recorded_at = await _append(connection, command)
    except psycopg.Error as error:
        if error.sqlstate != _RECORDED_BEFORE:
            raise _meaning(error, command) from error
        return AppendResult(await _of_command(pool, command), duplicate=True)
    return AppendResult(_recorded(command, recorded_at), duplicate=False)


async def append_together(
    pool: AsyncConnectionPool, commands: Sequence[Command]
) -> list[AppendResult | None]:
    """Append commands for streams in different lanes in one transaction.

    Returns:
        the result of each command; None for one that was refused: `append_alone` raises the
        reason, or by now records it.

    Raises:
        Undone: nothing was recorded; `append_alone` may record each of them.
        psycopg.OperationalError: the database cannot be reached, or the connection was lost: it is
            not known whether the commands were recorded.
    """
    async with Borrowed(pool) as connection:
        try:
            recorded_at, accepted = await _append_commands(connection, commands)
        except Exception as error:
            if connection.closed and not isinstance(error, Undone) and outage_of(error):
                raise
            with contextlib.suppress(psycopg.Error):  # it is closed now: nothing was recorded
                await connection.rollback()
            raise Undone from error
    return [
        AppendResult(_recorded(command, recorded_at), duplicate=False) if kept else None
        for command, kept in zip(commands, accepted, strict=True)
    ]


async def _append_commands(
    connection: AsyncConnection[Any], commands: Sequence[Command]
) -> tuple[datetime, Sequence[bool]]:
    """When the events were recorded, and of which commands they were."""
    statement, params = _group_statement(commands)
    if not any(command.inline for command in commands):
        cursor = await connection.execute(statement, params, binary=True)
        [(recorded_at, accepted)] = await cursor.fetchall()
        return recorded_at, accepted
    async with connection.pipeline():
        await connection.execute(_SQL["begin"])
        await connection.execute(_SQL["not_for_long"])
        cursor = await connection.execute(statement, params, binary=True)
        [(recorded_at, accepted)] = await cursor.fetchall()
        try:
            for command, kept in zip(commands, accepted, strict=True):
                for write in command.inline if kept else ():
                    await connection.execute(write.statement, write.params)
        except Exception as error:
            await connection.close()  # what was sent after that is still to be answered
            raise Undone from error
        await connection.execute(_SQL["commit"])
    return recorded_at, accepted


def _group_statement(commands: Sequence[Command]) -> tuple[bytes, dict[str, str]]:
    single = all(len(command.events) == 1 for command in commands)
    encoded = [
        {
            "stream_id": command.stream_id,
            "tenant_id": command.tenant_id,
            "expected_version": command.expected_version,
            "command_id": command.command_id,
            "metadata": command.metadata,
        }
        | (
            command.events[0]._asdict()
            if single
            else {"events": [event._asdict() for event in command.events]}
        )
        for command in commands
    ]
    params = {"lock_timeout": _GROUP_LOCK_TIMEOUT, "commands": orjson.dumps(encoded).decode()}
    return _SQL["append_one_each" if single else "append_commands"], params


async def _append(connection: AsyncConnection[Any], command: Command) -> datetime:
    """When the events were recorded."""
    statement, params = _statement(command)
    if not command.inline:
        cursor = await connection.execute(statement, params, binary=True)
        return await _recorded_at(cursor)
    # A pipeline on an autocommit connection is one transaction: the first failing statement rolls
    # back those before it and skips those after it.
    async with connection.pipeline():
        try:
            cursor = await connection.execute(statement, params, binary=True)
            for write in command.inline:
                await connection.execute(write.statement, write.params)
        except BaseException:
            # After a cancellation, or with parameters that cannot be sent, the end of the pipeline
            # would commit what was sent before. And if the server's error comes before all is sent,
            # answers are left that the next statement would take for its own.
            await connection.close()
            raise
    return await _recorded_at(cursor)


def _statement(command: Command) -> tuple[bytes, dict[str, Any]]:
    params = {
        "stream_id": command.stream_id,
        "tenant_id": command.tenant_id,
        "expected_version": command.expected_version,
        "command_id": command.command_id,
        "metadata": command.metadata,
    }
    if len(command.events) == 1:
        return _SQL["append_one"], params | command.events[0]._asdict()
    events = orjson.dumps([event._asdict() for event in command.events]).decode()
    return _SQL["append_many"], params | {"events": events}


async def _recorded_at(cursor: AsyncCursor[tuple[datetime]]) -> datetime:
    [(recorded_at,)] = await cursor.fetchall()
    return recorded_at


def _recorded(command: Command, recorded_at: datetime) -> list[RecordedEvent]:
    """The appended events, as reading them back would return them."""
    return [
        RecordedEvent(
            event.event_id,
            command.stream_id,
            version,
            event.type,
            event.schema_version,
            command.tenant_id,
            command.command_id,
            recorded_at,
            command.metadata,
            event.data,
        )
        for version, event in enumerate(command.events, command.expected_version + 1)
    ]


def _meaning(error: psycopg.Error, command: Command) -> Exception:
    stream_id, expected = command.stream_id, command.expected_version
    match error.sqlstate:
        case "QL002":
            return WrongExpectedVersion(stream_id, expected, int(error.diag.message_detail or 0))
        case "QL003":
            return StreamOfAnotherTenant(f"stream {stream_id!r} belongs to another tenant")
        case "22P02" if "public.append_" in (error.diag.context or ""):
            return InvalidEvent("data: the bytes are not JSON")
        case "23505" if error.diag.constraint_name == "events_event_id":
            return EventIdTaken(f"an event id of command {command.command_id} is taken")
    return error


async def _of_command(pool: AsyncConnectionPool, command: Command) -> list[RecordedEvent]:
    params = {"command_id": command.command_id, "stream_id": command.stream_id}
    return codec.decode_all(await fetch(pool, _SQL["of_command"], params))
