"""Imports exported events into a log: all or none, each once, each stream in its order."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
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
from contextlib import AsyncExitStack, asynccontextmanager
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


#: So many sessions move lanes at once, if there are cores for them, and events.
_MOST_MOVERS, _EVENTS_PER_MOVER = 4, 5000

#: Of the number of a line, the bits that count lines; those above them count files.
_LINE_BITS = 40

#: Opens a session of the tables' owner, in autocommit mode.
Connect = Callable[[], Awaitable[AsyncConnection[Any]]]

#: Loads events; returns how many of each stream were left out.
Load = Callable[[], Awaitable[Counter[str]]]

#: Writes what goes with streams that were just moved, in the same transaction.
Write = Callable[[AsyncConnection[Any], Sequence[list[RecordedEvent]]], Awaitable[None]]


class ImportRefused(EventLogError, ValueError):
    """The events cannot be added to this log; names the line and the reason."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What was staged.

    Attributes:
        events: number of events in the files.
        streams: number of streams they belong to.
        known: number of events that are already in the log, identical.
        tenants: number of tenants they belong to.
        partial: number of streams of which the files lack versions, which the log has.
        left_out: number of events in the files that were left out on purpose, and not staged.
    """

    events: int
    streams: int
    known: int
    tenants: int
    partial: int
    left_out: int = 0

    @property
    def new(self) -> int:
        """Number of events that an import appends."""
        return self.events - self.known


async def begin_session(connection: AsyncConnection[Any]) -> None:
    """Set what an import needs of a session."""
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await connection.execute(_SQL["session"])


async def copy_events(
    connection: AsyncConnection[Any],
    events: Iterable[ImportedEvent],
    without: Collection[str],
    progress: Callable[[int], None],
    file: int = 0,
) -> Counter[str]:
    """Copy the events of a file into the table beside the log.

    Args:
        connection: as `Connect` opens it.
        events: what to copy.
        without: streams that are left out.
        progress: called with the number of bytes read so far.
        file: its number, if there are several.

    Returns:
        how many events of each stream were left out.

    Raises:
        domain.eventlog.transfer.InvalidExport: as `domain.eventlog.transfer.read_export`.
    """
    done, left_out, first = 0, Counter[str](), file << _LINE_BITS
    async with connection.cursor() as cursor, cursor.copy(_SQL["copy"]) as copy:
        for imported in events:
            event = imported.event
            if event.stream_id in without:
                left_out[event.stream_id] += 1
                continue
            await copy.write_row((first | imported.line, lane_of(event.stream_id), *event))
            done += imported.size
            progress(done)
    return left_out


class Staging:
    """The events of files in a table beside the log, and their way into it.

    Until `accept` nothing of it is in the log, and afterwards it is certain to get there: if the
    process dies, the next import goes on with `move`.

    Args:
        connection: as ``connect`` opens it.
        connect: opens further ones.
        files: their names, if there are several.
    """

    def __init__(
        self, connection: AsyncConnection[Any], connect: Connect, files: Sequence[str] = ()
    ) -> None:
        self._connection, self._connect, self._files = connection, connect, files
        self._heads: dict[str, list[int]] = {"lanes": [], "positions": []}
        self._left_out: Counter[str] = Counter()

    async def begin(self) -> bool:
        """Begin an import; returns whether an accepted one has yet to be moved.

        Raises:
            ImportRefused: another import runs, or the connection is not the owner's.
        """
        await begin_session(self._connection)
        deadline = time.monotonic() + _ENDING_SECONDS
        while not (await self._rows("lock"))[0][0]:
            if time.monotonic() > deadline:
                raise ImportRefused("another import is running: wait until it has ended")
            await asyncio.sleep(0.05)
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
    async def loaded(self, load: Load, without: Collection[str]) -> AsyncIterator[None]:
        """Fill the table for the block; it is emptied at the end, unless the import was accepted.

        Args:
            load: fills it, as `copy_events` does.
            without: streams that are left out.

        Raises:
            domain.eventlog.transfer.InvalidExport: of ``load``.
            ImportRefused: a stream to leave out is not there.
        """
        try:
            self._left_out = await load()
            await self._run("analyze")
            if missing := sorted(set(without) - self._left_out.keys()):
                raise ImportRefused(f"without: the file has no stream {missing[0]!r}")
            yield
        finally:
            if not self._connection.closed and not await self._rows("accepted"):
                await self._clear()

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

        Several sessions move different lanes at once.

        Args:
            write: called in the transaction that moves them, with those streams, complete.

        Raises:
            ImportRefused: somebody has changed the log without its functions.
        """
        await self._run("ensure_tenants")
        rows = await self._rows("lanes")
        lanes = deque(lane for lane, _ in rows)

        async def mover(connection: AsyncConnection[Any]) -> None:
            while lanes:
                await self._move_lane(connection, lanes.popleft(), write)

        most = min(_MOST_MOVERS, len(os.sched_getaffinity(0)), len(lanes))
        events = sum(count for _, count in rows)
        async with AsyncExitStack() as stack:
            sessions = [self._connection]
            while len(sessions) < min(most, events // _EVENTS_PER_MOVER):
                sessions.append(await stack.enter_async_context(await self._connect()))
                await begin_session(sessions[-1])
            try:
                async with asyncio.TaskGroup() as group:
                    for session in sessions:
                        group.create_task(mover(session))
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
        await self.give_up()

    async def _move_lane(self, session: AsyncConnection[Any], lane: int, write: Write) -> None:
        while streams := await _rows(session, "next", lane=lane, events=_STEP):
            chunk = {"lane": lane, "streams": [stream_id for (stream_id,) in streams]}
            # Read before the lane is held: who stands still while much is sent cannot be ended.
            cursor = session.cursor(binary=True)
            await cursor.execute(_SQL["some_streams"], chunk)
            complete = [one async for one in _by_stream(cursor)]
            try:
                async with session.transaction():
                    await _rows(session, "lock_lane", lane=lane)
                    await self._refuse(_WITH_THE_LOG, chunk["streams"], session)
                    await session.execute(_SQL["insert"], chunk)
                    await session.execute(_SQL["done"], chunk)
                    await write(session, complete)
            except (ImportRefused, psycopg.errors.UniqueViolation) as error:
                raise ImportRefused(f"{error}; {_GIVE_UP}") from None

    async def give_up(self) -> None:
        """Forget what has not been moved: others may write to its streams again."""
        await self._run("finish")
        await self._clear()

    async def _clear(self) -> None:
        try:
            await self._run("clear")
        except psycopg.errors.LockNotAvailable:  # a dump, say; the next import clears it
            return

    async def _refuse(
        self,
        statements: Iterable[str],
        streams: object = None,
        session: AsyncConnection[Any] | None = None,
    ) -> None:
        for name in statements:
            rows = await _rows(session or self._connection, name, streams=streams)
            if rows:
                line, *rest = rows[0]
                if name == "repeated":
                    rest[0] = self._place(rest[0])
                raise ImportRefused(f"{self._place(line)}: {_REFUSALS[name](*rest)}")

    def _place(self, line: int) -> str:
        file, number = line >> _LINE_BITS, line & (1 << _LINE_BITS) - 1
        return f"{self._files[file]}: line {number}" if self._files else f"line {number}"

    async def _run(self, statement: str) -> None:
        await self._connection.execute(_SQL[statement])

    async def _rows(self, statement: str, **params: object) -> list[tuple[Any, ...]]:
        return await _rows(self._connection, statement, **params)


async def _rows(
    session: AsyncConnection[Any], statement: str, **params: object
) -> list[tuple[Any, ...]]:
    cursor = await session.execute(_SQL[statement], params or None)
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

#: What is wrong with a line, by statement.
_REFUSALS: Mapping[str, Callable[..., str]] = {
    "not_json": lambda field: f"{field}: not JSON",
    "repeated": lambda first, field: f"{field}: the same as on {first}",
    "altered": lambda event_id: f"the database stores event {event_id} differently",
    "order": lambda stream, version, before: (
        f"streamversion: {version} of {stream!r} comes after {before}"
    ),
    "clash": lambda stream, version, event_id, its_stream, its_version: (
        f"subject: version {version} of {stream!r} clashes with event {event_id}, "
        f"version {its_version} of {its_stream!r}, in the log: import into another database"
    ),
    "tenants": lambda stream, tenant, other: (
        f"tenantid: {tenant!r}, but the stream {stream!r} belongs to {other!r}"
    ),
    "gap": lambda stream, wanted, first: (
        f"streamversion: the log needs version {wanted} of {stream!r} next, the file "
        + ("has gaps after it" if first == wanted else f"begins with {first}")
        + f": export whole streams, without --type; or import the others, --without {stream}"
    ),
}
