"""Imports exported events into a log: all or none, each once, in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection

from domain.database.statements import load_statements
from domain.eventlog import codec
from domain.eventlog.models import EventLogError, RecordedEvent
from domain.eventlog.transfer import ImportedEvent

_SQL = load_statements(Path(__file__).with_name("staging.sql"))

#: Rows that a cursor fetches at once.
_PAGE = 1000


class ImportRefused(EventLogError, ValueError):
    """The events cannot be added to this log; names the line and the reason."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What a staged file contains.

    Attributes:
        events: number of events in the file.
        streams: number of streams they belong to.
        known: number of events that are already in the log, identical.
        tenants: number of tenants they belong to.
    """

    events: int
    streams: int
    known: int
    tenants: int

    @property
    def new(self) -> int:
        """Number of events that an import appends."""
        return self.events - self.known


class Staging:
    """A temporary table with the events of a file, on a connection that may insert into the log.

    Args:
        connection: of the tables' owner, in autocommit mode.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def load(self, events: Iterable[ImportedEvent], progress: Callable[[int], None]) -> None:
        """Fill the table; ``progress`` is called with the number of bytes read so far.

        Raises:
            domain.eventlog.transfer.InvalidExport: as `read_export`.
        """
        await self._run("drop")
        await self._run("create")
        done = 0
        async with self._connection.cursor() as cursor, cursor.copy(_SQL["copy"]) as copy:
            for imported in events:
                event = imported.event
                await copy.write_row((imported.line, *event[2:]))
                done += imported.size
                progress(done)
        await self._run("index")
        await self._run("analyze")

    async def check(self) -> Staged:
        """Compare the table with the log.

        Raises:
            ImportRefused: they contradict each other.
        """
        for statement, say in _REFUSALS.items():
            if rows := await self._rows(statement):
                raise ImportRefused(say(*rows[0]))
        [row] = await self._rows("count")
        return Staged(*row)

    async def insert(self) -> None:
        """Append the events that the log does not have; to be called within a transaction.

        Raises:
            ImportRefused: a stream was written to meanwhile, the connection is not the owner's, or
                the database stores an event differently.
        """
        try:
            await self._run("insert")
        except psycopg.errors.UniqueViolation:
            raise ImportRefused(_MOVED) from None
        except psycopg.errors.InsufficientPrivilege:
            raise ImportRefused(
                "only the tables' owner may import: set DATABASE_ADMIN_URL"
            ) from None
        except psycopg.DataError as error:
            raise ImportRefused(f"the database cannot store an event: {error}") from None
        if await self._rows("late"):
            raise ImportRefused(_MOVED)
        for line, event_id in await self._rows("altered"):
            raise ImportRefused(f"line {line}: the database stores event {event_id} differently")
        await self._run("ensure_tenants")

    async def begin(self) -> None:
        """Wait for another import to end; to be called first in the transaction."""
        await self._run("lock")

    async def adopt(self) -> None:
        """Adopt the log in this cluster; see the first migration."""
        await self._run("adopt")

    async def streams(self) -> AsyncIterator[list[RecordedEvent]]:
        """Every stream of the table, complete, from the log; to be called within a transaction."""
        stream: list[RecordedEvent] = []
        async with self._connection.cursor("imported", binary=True) as cursor:
            cursor.itersize = _PAGE
            await cursor.execute(_SQL["streams"])
            async for row in cursor:
                record = codec.decode(row)
                if stream and stream[0].stream_id != record.stream_id:
                    yield stream
                    stream = []
                stream.append(record)
        if stream:
            yield stream

    async def _run(self, statement: str) -> None:
        await self._connection.execute(_SQL[statement])

    async def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(_SQL[statement])).fetchall()


_MOVED = "a stream of the file was written to meanwhile: import again"

_REFUSALS: Mapping[str, Callable[..., str]] = {
    "not_json": lambda line, field: f"line {line}: {field}: not JSON",
    "repeated": lambda line, first, field: f"line {line}: {field}: the same as on line {first}",
    "order": lambda line, stream, version, before: (
        f"line {line}: streamversion: {version} of {stream!r} comes after {before}"
    ),
    "clash": lambda line, stream, version, event_id, its_stream, its_version: (
        f"line {line}: subject: version {version} of {stream!r} clashes with event {event_id}, "
        f"version {its_version} of {its_stream!r}, in the log: import into another database"
    ),
    "tenants": lambda line, stream, tenant, other: (
        f"line {line}: tenantid: {tenant!r}, but the stream {stream!r} belongs to {other!r}"
    ),
    "gap": lambda line, stream, wanted, first: (
        f"line {line}: streamversion: the log needs version {wanted} of {stream!r} next, the file "
        f"begins with {first} or has gaps: export whole streams, without --type"
    ),
}
