"""Exports events, and imports them into another log together with their read model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, BinaryIO

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from pydantic import ValidationError

from domain.contracts.validation import describe
from domain.database.pool import Connection
from domain.errors import OperationError
from domain.eventlog.heads import Heads
from domain.eventlog.intent_streams import intent_of, typed
from domain.eventlog.lanes import LANES
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, RecordedEvent
from domain.eventlog.scan import Filter, LogScanner
from domain.eventlog.staging import Connect, ImportRefused, Staged, Staging, copy_events
from domain.eventlog.transfer import ExportWriter, has_unreadable_data, read_export
from domain.intents.events import POISON, REGISTRY, NewerEvent, UnreadableEvent
from domain.intents.evolve import evolve
from domain.intents.state import IntentState
from domain.operations.import_files import load_files
from domain.projections.following.batch import describe as describe_poison
from domain.projections.following.parked import park
from domain.projections.intent_row import row_of
from domain.projections.intents import INTENT_STATES, IntentRow, upsert

#: Most odd events, and most parked streams, that are listed; all of them are counted.
MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        events: the number of events.
        unknown: events whose type or schema version this release does not know; included.
        end: the heads of the log when it began, up to which it is complete.
        odd: events with data that only PostgreSQL takes for JSON; written as text.
        first_odd: stream and version of the first odd events, at most `MAX_NAMED`.
    """

    events: int
    unknown: int
    end: Heads
    odd: int = 0
    first_odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, or would do.

    Attributes:
        staged: what the file holds, and what of it is new.
        unfinished: imported intents that have not ended; the application continues them.
        unknown: events whose type or schema version this release does not know; imported.
        rows: rows of the read model that were written.
        parked: streams of intents that cannot be folded; they have no row.
        first_parked: what is wrong with the first of them, at most `MAX_NAMED`.
    """

    staged: Staged
    unfinished: int = 0
    unknown: int = 0
    rows: int = 0
    parked: int = 0
    first_parked: tuple[str, ...] = ()


async def export_events(
    pool: AsyncConnectionPool,
    wanted: Filter,
    after: Heads,
    write: Callable[[bytes], object],
    progress: Callable[[int], None] = lambda _events: None,
) -> Exported:
    """Write the wanted events after a place that are recorded so far, and a trailer.

    Takes little memory: reads one part of the log at a time.

    Raises:
        OperationError: ``after`` lies beyond the log's end.
    """
    scanner, writer, unknown = LogScanner(pool), ExportWriter(), 0
    odd, first_odd = 0, list[str]()
    end = await EventLog(pool).heads()
    if not end.reaches(after):
        lane = next(n for n in range(LANES) if after.positions[n] > end.positions[n])
        raise OperationError(
            f"after: lies beyond the end of this log: at {after.positions[lane]} in lane {lane}, "
            f"which ends at {end.positions[lane]}; it comes from an export of another log, or of "
            "events that this log has lost"
        )
    async for part in scanner.parts(after, end, wanted):
        for event in part:
            unknown += not REGISTRY.reads(event.type, event.schema_version)
            if has_unreadable_data(event):
                odd += 1
                first_odd += [f"{event.stream_id}, event {event.version}"][: MAX_NAMED - odd + 1]
            write(writer.line(event))
        progress(writer.events)
    write(writer.trailer(end))
    return Exported(writer.events, unknown, end, odd, tuple(first_odd))


async def import_events(
    admin_url: str,
    source: BinaryIO | Sequence[str],
    *,
    without: Collection[str] = (),
    confirm: Callable[[Staged], bool],
    progress: Callable[[int], None] = lambda _bytes: None,
    accepted: Callable[[], None] = lambda: None,
) -> Imported:
    """Append the events of exports, with their ids, versions and times.

    All or nothing: everything is checked first; from then on the import is certain. Its streams are
    moved into the log a few at a time, each with its row of the read model, so that writers never
    wait long. An import that broke off there is finished by the next one. Importing a file again
    changes nothing.

    Args:
        admin_url: signs in as the tables' owner, who alone may insert without the append functions.
        source: an export, read once from its current position, which may be a pipe; or the names
            of several, which are read at once. A stream may go on from one to the next.
        without: streams that are left out, such as one whose versions have a gap.
        confirm: called once all is verified; if it returns False, nothing is imported.
        progress: called with the number of bytes read so far.
        accepted: called once the import is certain.

    Raises:
        domain.eventlog.transfer.InvalidExport: a file is not a complete, unchanged export.
        ImportRefused: its events cannot be added to this log.
        OSError: a file cannot be read.
    """

    async def load() -> Counter[str]:
        if isinstance(source, Sequence):
            return await load_files(admin_url, source, without, progress)
        return await copy_events(connection, read_export(source), without, progress)

    connect = _connecting(admin_url)
    async with await connect() as connection:
        files = source if isinstance(source, Sequence) else ()
        staging = Staging(connection, connect, files)
        if await staging.begin():
            await staging.move(_write_read_model)
        async with staging.loaded(load, without):
            staged = await staging.check()
            done = await _examined(staging, staged)
            if not confirm(staged):
                return Imported(staged)
            await staging.accept()
        accepted()
        await staging.move(_write_read_model)
        return done


async def end_import(
    admin_url: str, *, give_up: bool, confirm: Callable[[], object] = lambda: None
) -> bool:
    """End an import that broke off once it was certain; returns whether there was one.

    Args:
        admin_url: as for `import_events`.
        give_up: forget what it has not moved yet; else move it.
        confirm: called before something is forgotten; nothing is if it raises.

    Raises:
        ImportRefused: another import runs, the connection is not the owner's, or what is left
            contradicts the log.
    """
    connect = _connecting(admin_url)
    async with await connect() as connection:
        staging = Staging(connection, connect)
        if not await staging.begin():
            return False
        if give_up:
            confirm()
            await staging.give_up()
        else:
            await staging.move(_write_read_model)
        return True


def _connecting(admin_url: str) -> Connect:
    async def connect() -> AsyncConnection[Any]:
        return await Connection.connect(admin_url, autocommit=True)

    return connect


async def _examined(staging: Staging, staged: Staged) -> Imported:
    """What an import will do.

    Raises:
        ImportRefused: a stream can be folded, but is out of bounds or contradicts itself.
    """
    unfinished = unknown = rows = parked = 0
    first_parked: list[str] = []
    async with aclosing(staging.streams()) as streams:
        async for stream in streams:
            unknown += sum(not REGISTRY.reads(each.type, each.schema_version) for each in stream)
            try:
                state = _folded(stream)
            except _Unfoldable as error:
                parked += 1
                first_parked += [str(error)][: MAX_NAMED - parked + 1]
                continue
            if state is not None:
                _row(state, stream[0])
                unfinished += not state.status.terminal
                rows += 1
    return Imported(staged, unfinished, unknown, rows, parked, tuple(first_parked))


async def _write_read_model(
    connection: AsyncConnection[Any], streams: Sequence[list[RecordedEvent]]
) -> None:
    """Write the rows of streams that were just moved into the log.

    A stream whose row cannot be made or written is parked with the reason: nothing of it keeps the
    import from its end.
    """
    rows: dict[str, InlineWrite] = {}
    last = {stream[0].stream_id: stream[-1] for stream in streams}
    for stream in streams:
        try:
            state = _folded(stream)
            if state is not None:
                rows[stream[0].stream_id] = upsert(_row(state, stream[0]))
        except _Unfoldable as error:
            await _park(connection, error.record, error.reason)
        except ImportRefused as error:
            await _park(connection, stream[-1], str(error))
    if not rows or not await _refused(connection, list(rows.values())):
        return
    for stream_id, row in rows.items():
        if reason := await _refused(connection, [row]):
            await _park(connection, last[stream_id], reason)


async def _refused(connection: AsyncConnection[Any], rows: list[InlineWrite]) -> str | None:
    """Write all rows, or none and return why the database refuses them."""
    try:
        async with connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany(rows[0].statement, [row.params for row in rows])
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        return str(error).partition("\n")[0]
    return None


async def _park(connection: AsyncConnection[Any], record: RecordedEvent, reason: str) -> None:
    at = (record.stream_id, record.version, record.event_id)
    await park(connection, INTENT_STATES, *at, reason)


def _row(state: IntentState, first: RecordedEvent) -> IntentRow:
    """The row of a state.

    Raises:
        ImportRefused: its times, or what follows from them, are beyond what a row can hold.
    """
    try:
        return row_of(state)
    except (OverflowError, ValueError) as error:
        raise ImportRefused(
            f"stream {first.stream_id!r}: a time is out of range: {error}"
        ) from None


class _Unfoldable(Exception):
    """A stream that this release cannot fold: it is imported, and parked."""

    def __init__(self, record: RecordedEvent, reason: str) -> None:
        super().__init__(f"{record.stream_id}, event {record.version}: {reason}")
        self.record = record
        self.reason = reason


def _folded(stream: Sequence[RecordedEvent]) -> IntentState | None:
    """The state of an intent; None if it is another kind of stream.

    Raises:
        _Unfoldable: this release cannot fold it.
        ImportRefused: it can be folded, but is out of bounds or contradicts itself.
    """
    first = stream[0]
    try:
        intent_id = intent_of(first.stream_id)
    except ValueError:
        for record in stream:
            _check_bounds(record)
        return None
    state: IntentState | None = None
    for record in stream:
        try:
            state = evolve(state, typed(record))
        except POISON as error:
            raise _Unfoldable(record, describe_poison(error)) from None
        _check_bounds(record)
    if state is not None and (state.id, state.tenant_id) != (intent_id, first.tenant_id):
        raise ImportRefused(
            f"stream {first.stream_id!r}: its events belong to intent {state.id} of tenant "
            f"{state.tenant_id!r}, the stream to another"
        )
    return state


def _check_bounds(record: RecordedEvent) -> None:
    """Check what can be read as if a client had sent it: it comes from outside.

    Raises:
        ImportRefused: it is out of bounds, which nothing would check later.
    """
    try:
        typed(record)
        REGISTRY.revive_checked(record.type, record.schema_version, record.data_json)
    except (NewerEvent, UnreadableEvent):
        return
    except ValidationError as error:
        raise ImportRefused(
            f"stream {record.stream_id!r}, version {record.version}: data: {describe(error)}"
        ) from None
