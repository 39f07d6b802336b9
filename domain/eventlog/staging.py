"""Imports exported events into a log: all or none, each once, each stream in its order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection, IsolationLevel

from domain.database.statements import load_statements
from domain.eventlog import codec
from domain.eventlog.lanes import lane_of
from domain.eventlog.models import EventLogError, RecordedEvent
from domain.eventlog.transfer import ImportedEvent

_SQL = load_statements(Path(__file__).with_name("staging.sql"))

#: The session of an import that has just ended may be there for a moment; seconds.
_ENDING_SECONDS = 2.0

#: Rows that a cursor fetches at once.
_PAGE = 1000

#: Events that are moved into the log in one transaction, which holds their lane.
_STEP = 1000

_GIVE_UP = "to forget what is not moved yet: qlp events import --give-up"

_TABLE_IN_USE = (
    "the table import_events is in use by another session, as by a dump: import when that has ended"
)

#: How often an import tries to hold all its lanes at once, and the pause between, seconds.
_TRIES, _PAUSE = 20, 0.5


#: Writes what goes with streams that were just moved, in the same transaction.
Write = Callable[[AsyncConnection[Any], Sequence[list[RecordedEvent]]], Awaitable[None]]


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
        left_out: number of events in the file that were left out on purpose, and not staged.
    """

    events: int
    streams: int
    known: int
    tenants: int
    left_out: int = 0

    @property
    def new(self) -> int:
        """Number of events that an import appends."""
        return self.events - self.known


class Staging:
    """The events of a file in a table beside the log, and their way into it.

    Until `accept` nothing of it is in the log, and afterwards it is certain to get there: if the
    process dies, the next import goes on with `move`.

    Args:
        connection: of the tables' owner, in autocommit mode.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._heads: dict[str, list[int]] = {"lanes": [], "positions": []}
        self._left_out: Counter[str] = Counter()

    async def begin(self) -> bool:
        """Begin an import; returns whether an accepted one has yet to be moved.

        Raises:
            ImportRefused: another import runs, or the connection is not the owner's.
        """
        await self._connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        await self._run("session")
        deadline = time.monotonic() + _ENDING_SECONDS
        while not (await self._rows("lock"))[0][0]:
            if time.monotonic() > deadline:
                raise ImportRefused("another import is running: wait until it has ended")
            await asyncio.sleep(0.05)
        await self._run("adopt")
        try:
            accepted = bool(await self._rows("accepted"))
            if not accepted:
                await self._run("clear")
        except psycopg.errors.InsufficientPrivilege:
            raise ImportRefused(
                "only the tables' owner may import: set DATABASE_ADMIN_URL"
            ) from None
        except psycopg.errors.LockNotAvailable:
            raise ImportRefused(_TABLE_IN_USE) from None
        return accepted

    @asynccontextmanager
    async def loaded(
        self,
        events: Iterable[ImportedEvent],
        without: Collection[str],
        progress: Callable[[int], None],
    ) -> AsyncIterator[None]:
        """Fill the table for the block; it is emptied at the end, unless the import was accepted.

        Args:
            events: what to load.
            without: streams that are left out.
            progress: called with the number of bytes read so far.

        Raises:
            domain.eventlog.transfer.InvalidExport: as `read_export`.
            ImportRefused: a stream to leave out is not there.
        """
        try:
            await self._load(events, without, progress)
            if missing := sorted(set(without) - self._left_out.keys()):
                raise ImportRefused(f"without: the file has no stream {missing[0]!r}")
            yield
        finally:
            if not self._connection.closed and not await self._rows("accepted"):
                await self._clear()

    async def _load(
        self,
        events: Iterable[ImportedEvent],
        without: Collection[str],
        progress: Callable[[int], None],
    ) -> None:
        done = 0
        async with self._connection.cursor() as cursor, cursor.copy(_SQL["copy"]) as copy:
            for imported in events:
                event = imported.event
                if event.stream_id in without:
                    self._left_out[event.stream_id] += 1
                    continue
                await copy.write_row((imported.line, lane_of(event.stream_id), *event[2:]))
                done += imported.size
                progress(done)
        await self._run("analyze")

    async def check(self) -> Staged:
        """Compare the table with the log.

        Raises:
            ImportRefused: they contradict each other, or the database cannot store an event.
        """
        rows = await self._rows("heads")
        self._heads = {"lanes": [row[0] for row in rows], "positions": [row[1] for row in rows]}
        try:
            await self._refuse(_IN_ITSELF)
        except psycopg.errors.StatementTooComplex:
            raise ImportRefused(
                "an event's JSON is nested more deeply than PostgreSQL reads"
            ) from None
        await self._refuse(_WITH_THE_LOG)
        [row] = await self._rows("count")
        return replace(Staged(*row), left_out=self._left_out.total())

    async def streams(self) -> AsyncGenerator[list[RecordedEvent]]:
        """Every stream of the table, complete, as it will be in the log."""
        connection = self._connection
        async with connection.transaction(), connection.cursor("imported", binary=True) as cursor:
            cursor.itersize = _PAGE
            await cursor.execute(_SQL["streams"])
            async for stream in _by_stream(cursor):
                yield stream

    async def accept(self) -> None:
        """Make the import certain: from here on, nobody else can write to the streams.

        Writers wait for less than a second meanwhile.

        Raises:
            ImportRefused: a stream was written to since `check`, or writers gave way to nobody.
        """
        for _ in range(_TRIES):
            try:
                async with self._connection.transaction():
                    await self._run("short")
                    await self._run("hold_lanes")
                    touched = [row[0] for row in await self._rows("touched", **self._heads)]
                    if touched:
                        await self._refuse(_WITH_THE_LOG, touched)
                    await self._run("accept")
                return
            except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
                await asyncio.sleep(_PAUSE)
        raise ImportRefused("the log is written to without a pause: import again later")

    async def move(self, write: Write) -> None:
        """Move the accepted events into the log, some streams of one lane at a time.

        Args:
            write: called in the transaction that moves them, with those streams, complete.

        Raises:
            ImportRefused: somebody has changed the log without its functions.
        """
        await self._run("ensure_tenants")
        while chunk := await self._rows("next", events=_STEP):
            lane, streams = chunk[0][0], [row[1] for row in chunk]
            # Read before the lane is held: who stands still while much is sent cannot be ended.
            cursor = self._connection.cursor(binary=True)
            await cursor.execute(_SQL["some_streams"], {"lane": lane, "streams": streams})
            complete = [one async for one in _by_stream(cursor)]
            try:
                async with self._connection.transaction():
                    await self._rows("lock_lane", lane=lane)
                    await self._refuse(_WITH_THE_LOG, streams)
                    await self._run("insert", lane=lane, streams=streams)
                    await self._run("done", lane=lane, streams=streams)
                    await write(self._connection, complete)
            except (ImportRefused, psycopg.errors.UniqueViolation) as error:
                raise ImportRefused(f"{error}; {_GIVE_UP}") from None
        await self.give_up()

    async def give_up(self) -> None:
        """Forget what has not been moved: others may write to its streams again."""
        await self._run("finish")
        await self._clear()

    async def _clear(self) -> None:
        try:
            await self._run("clear")
        except psycopg.errors.LockNotAvailable:  # a dump, say; the next import clears it
            return

    async def _refuse(self, statements: Iterable[str], streams: list[str] | None = None) -> None:
        for name in statements:
            if rows := await self._rows(name, streams=streams):
                raise ImportRefused(_REFUSALS[name](*rows[0]))

    async def _run(self, statement: str, **params: object) -> None:
        await self._connection.execute(_SQL[statement], params or None)

    async def _rows(self, statement: str, **params: object) -> list[tuple[Any, ...]]:
        cursor = await self._connection.execute(_SQL[statement], params or None)
        return await cursor.fetchall()


async def _by_stream(rows: AsyncIterable[tuple[Any, ...]]) -> AsyncIterator[list[RecordedEvent]]:
    """Rows in the order of streams and versions, a stream at a time."""
    stream: list[RecordedEvent] = []
    async for row in rows:
        record = codec.decode(row)
        if stream and stream[0].stream_id != record.stream_id:
            yield stream
            stream = []
        stream.append(record)
    if stream:
        yield stream


#: Checks of the file alone, and against the log.
_IN_ITSELF = ("not_json", "repeated", "order", "altered")
_WITH_THE_LOG = ("clash", "tenants", "gap")

_REFUSALS: Mapping[str, Callable[..., str]] = {
    "not_json": lambda line, field: f"line {line}: {field}: not JSON",
    "repeated": lambda line, first, field: f"line {line}: {field}: the same as on line {first}",
    "altered": lambda line, event_id: (
        f"line {line}: the database stores event {event_id} differently"
    ),
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
        + ("has gaps after it" if first == wanted else f"begins with {first}")
        + f": export whole streams, without --type; or import the others, --without {stream}"
    ),
}
