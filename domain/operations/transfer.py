"""Exports events from the log, and imports them into another one, with their read model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from pydantic import ValidationError

from domain.eventlog.models import Checkpoint, InlineWrite, RecordedEvent
from domain.eventlog.scan import Filter, LogScanner
from domain.eventlog.staging import ImportRefused, Staged, Staging
from domain.eventlog.transfer import ExportWriter, read_export
from domain.intents.events import (
    REGISTRY,
    IntentEvent,
    UnknownEvent,
)
from domain.intents.evolve import CorruptStream, fold
from domain.intents.state import IntentState
from domain.projections.intents import upsert
from domain.repository import intent_of, row_of
from domain.validation import describe

#: Read-model rows written at once.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        events: written.
        unknown: of them of a type or schema version that this release does not know; kept.
        end: an export of what follows continues after it.
    """

    events: int
    unknown: int
    end: Checkpoint


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, or would do.

    Attributes:
        staged: what the file holds and what of it is new.
        unfinished: imported intents that have not ended; the application carries them on.
        unknown: events of a type or schema version that this release does not know; kept.
        rows: of the read model that were brought along.
    """

    staged: Staged
    unfinished: int = 0
    unknown: int = 0
    rows: int = 0


async def export_events(
    pool: AsyncConnectionPool,
    wanted: Filter,
    after: Checkpoint,
    write: Callable[[bytes], object],
    progress: Callable[[int], None] = lambda _events: None,
) -> Exported:
    """Write the wanted events after a checkpoint, up to the end for now, and a trailer.

    Memory stays flat: one part of the log at a time.
    """
    scanner, writer, unknown = LogScanner(pool), ExportWriter(), 0
    while (part := await scanner.part(after, wanted)) is not None:
        for event in part.events:
            model = REGISTRY.types.get(event.type)
            unknown += model is None or event.schema_version > model.schema_version
            write(writer.line(event))
        after = part.end
        progress(writer.events)
    write(writer.trailer(after))
    return Exported(writer.events, unknown, after)


async def import_events(
    admin_url: str,
    path: Path,
    *,
    confirm: Callable[[Staged], bool],
    progress: Callable[[int], None] = lambda _bytes: None,
) -> Imported:
    """Append the events of an export, with their ids, versions, order and times.

    Everything happens in one transaction, the rows of the read model included; importing a file
    again changes nothing. Followers of the log see nothing new while the transaction lasts.

    Args:
        admin_url: of the tables' owner, who alone may insert past the append functions.
        path: of the file.
        confirm: asked once all is verified; what it refuses does not happen.
        progress: gets the number of bytes read so far.

    Raises:
        domain.eventlog.transfer.InvalidExport: the file is not a whole, unchanged export.
        ImportRefused: it does not fit into this log.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        async with await AsyncConnection.connect(admin_url, autocommit=True) as connection:
            staging = Staging(connection)
            await staging.load(read_export(file), progress)
            staged = await staging.check()
            if not confirm(staged):
                return Imported(staged)
            await staging.adopt()
            async with connection.transaction():
                await staging.begin()
                staged = await staging.check()
                await staging.insert()
                return await _bring_along(connection, staging, staged)


async def _bring_along(
    connection: AsyncConnection[Any], staging: Staging, staged: Staged
) -> Imported:
    unfinished = unknown = rows = 0
    batch: list[InlineWrite] = []
    async for stream in staging.streams():
        events = [_typed(record) for record in stream]
        unknown += sum(isinstance(event, UnknownEvent) for event in events)
        state = _folded(stream[0], events)
        if state is None:
            continue
        unfinished += not state.status.terminal
        rows += 1
        batch.append(upsert(row_of(state)))
        if len(batch) == _BATCH:
            await _write(connection, batch)
    await _write(connection, batch)
    return Imported(staged, unfinished, unknown, rows)


def _typed(record: RecordedEvent) -> IntentEvent | UnknownEvent:
    try:
        return REGISTRY.revive_checked(record.type, record.schema_version, record.data_json)
    except ValidationError as error:
        raise ImportRefused(
            f"stream {record.stream_id!r}, version {record.version}: data: {describe(error)}"
        ) from None


def _folded(
    first: RecordedEvent, events: Sequence[IntentEvent | UnknownEvent]
) -> IntentState | None:
    """The state of an intent; None for a stream of something else."""
    try:
        intent_id = intent_of(first.stream_id)
    except ValueError:
        return None
    try:
        state = fold(events)
    except CorruptStream as error:
        raise ImportRefused(f"stream {first.stream_id!r}: {error}") from None
    if state is not None and (state.id, state.tenant_id) != (intent_id, first.tenant_id):
        raise ImportRefused(
            f"stream {first.stream_id!r}: its events are of intent {state.id} of tenant "
            f"{state.tenant_id!r}, the stream is of another"
        )
    return state


async def _write(connection: AsyncConnection[Any], batch: list[InlineWrite]) -> None:
    if batch:
        async with connection.cursor() as cursor:
            await cursor.executemany(batch[0].statement, [write.params for write in batch])
        batch.clear()
