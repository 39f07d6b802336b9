"""Builds the read model of intents, which is written inline, by folding streams.

In bulk the log is read by stream: each stream is folded to its end and its row written once, so
memory holds one stream and one page, however long the log is and however streams interleave in it.
What comes in meanwhile is then followed in the log's order: streams that have moved are folded
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Json
from psycopg_pool import AsyncConnectionPool

from domain.database import fetch
from domain.eventlog import codec
from domain.eventlog.models import Checkpoint, RecordedEvent
from domain.intents.state import IntentState, evolve
from domain.projections.intents import IntentRow, upsert
from domain.projections.rebuild_contract import Phase, Position
from domain.projections.registry import INTENT_STATES, INTENT_STATES_VERSION
from domain.projections.runner_batch import POISON, describe
from domain.repository import intent_of, row_of, typed
from domain.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("rebuild_intents.sql"))

#: After every event there is or will be.
_END = Checkpoint(2**62, 2**62)

_LAST_VERSION = 2**31 - 1


class Unfoldable(NamedTuple):
    """A stream that cannot be folded, and the event at which it fails."""

    record: RecordedEvent
    error: Exception


@dataclass(slots=True)
class StreamFold:
    """One stream on its way to a row."""

    stream_id: str
    version: int = 0
    state: IntentState | None = None
    failed: Unfoldable | None = None

    def take(self, record: RecordedEvent) -> None:
        """Fold the stream's next event; after one that cannot be taken, pass over the rest."""
        self.version = record.version
        if self.failed is not None:
            return
        try:
            self.state = evolve(self.state, typed(record))
        except POISON as error:
            self.failed = Unfoldable(record, error)

    def row(self) -> IntentRow | None:
        """The intent's row; None where the stream has failed."""
        return row_of(self.state) if self.state is not None and self.failed is None else None


class IntentStatesBuilder:
    """Builds ``intent_states``.

    A stream that cannot be folded keeps the row that it has, and is listed as parked.
    """

    name = INTENT_STATES
    version = INTENT_STATES_VERSION
    tables = (INTENT_STATES,)
    first_phase: Phase = "bulk"
    lease = None

    def __init__(self, pool: AsyncConnectionPool, page: int) -> None:
        self._pool = pool
        self.page = page
        self._open: StreamFold | None = None
        self._next: asyncio.Task[list[tuple[Any, ...]]] | None = None

    async def advance(
        self, connection: AsyncConnection[Any], position: Position
    ) -> Position | None:
        """Take one page of events; None: there are no more for now."""
        if position.phase == "bulk":
            return await self._bulk(connection, position)
        return await self._follow(connection, position)

    async def catch_up(self, connection: AsyncConnection[Any], position: Position) -> Position:
        """Take every committed event, also those that are not safe to follow yet.

        Whoever has not committed waits for the lock on the live table, and writes its row later.
        """
        await self._refold(connection, position.checkpoint, _END)
        return position

    async def check(self, connection: AsyncConnection[Any], position: Position) -> int:
        """The number of rows that are behind their stream or have none."""
        rows = await connection.execute(_SQL["wrong"], _bounds(position.checkpoint))
        [(wrong,)] = await rows.fetchall()
        return int(wrong)

    async def _bulk(self, connection: AsyncConnection[Any], position: Position) -> Position:
        fold = self._open
        after = (fold.stream_id, fold.version) if fold else (position.after_stream, _LAST_VERSION)
        page = await (self._next or self._read(*after))
        self._next = None
        last = len(page) < self.page
        if not last:
            # The server reads the next page while this one is folded here.
            self._next = asyncio.create_task(self._read(page[-1][3], page[-1][4]))
            await asyncio.sleep(0)
        finished: list[StreamFold] = []
        for record in map(codec.decode, page):
            if fold is None or record.stream_id != fold.stream_id:
                finished += [fold] if fold else []
                fold = StreamFold(record.stream_id)
            fold.take(record)
        if last and fold:
            finished.append(fold)
        self._open = None if last else fold
        await self._write_new(connection, finished)
        return Position(
            phase="follow" if last else "bulk",
            after_stream=finished[-1].stream_id if finished else position.after_stream,
            checkpoint=position.checkpoint,
            events=position.events + sum(done.version for done in finished),
        )

    async def _read(self, stream_id: str, version: int) -> list[tuple[Any, ...]]:
        params = {"stream_id": stream_id, "version": version, "limit": self.page}
        return await fetch(self._pool, _SQL["by_stream"], params)

    async def _write_new(
        self, connection: AsyncConnection[Any], finished: Iterable[StreamFold]
    ) -> None:
        async with connection.cursor() as cursor, cursor.copy(_SQL["copy"]) as copy:
            for fold in finished:
                if (row := fold.row()) is not None:
                    await copy.write_row(_values(row))
        for fold in finished:
            if fold.failed is not None:
                await self._keep(connection, fold.failed)

    async def _follow(
        self, connection: AsyncConnection[Any], position: Position
    ) -> Position | None:
        params = {**_bounds(position.checkpoint), "limit": self.page}
        row = await (await connection.execute(_SQL["page_end"], params)).fetchone()
        if row is None:
            return None
        end = Checkpoint(row[0], row[1])
        await self._refold(connection, position.checkpoint, end)
        return replace(position, checkpoint=end, events=position.events + row[2])

    async def _refold(
        self, connection: AsyncConnection[Any], after: Checkpoint, to: Checkpoint
    ) -> None:
        """Fold the streams that have moved between two checkpoints and are not shown so."""
        params = {
            **_bounds(after),
            "to_transaction_id": str(to.transaction_id),
            "to_position": to.position,
        }
        rows = await connection.execute(_SQL["behind"], params)
        behind = [stream_id for (stream_id,) in await rows.fetchall()]
        for start in range(0, len(behind), 100):
            async for fold in folded_streams(connection, behind[start : start + 100]):
                if (row := fold.row()) is not None:
                    write = upsert(row)
                    await connection.execute(write.statement, write.params)
                elif fold.failed is not None:
                    await self._keep(connection, fold.failed)

    async def _keep(self, connection: AsyncConnection[Any], failed: Unfoldable) -> None:
        record = failed.record
        intent_id = _intent_of(record.stream_id)
        if intent_id is None:
            return  # a stream of something else: it has no row here
        await connection.execute(_SQL["keep_live"], {"id": intent_id})
        await connection.execute(
            _SQL["park"],
            {
                "stream_id": record.stream_id,
                "from_version": record.version,
                "event_id": record.event_id,
                "error": describe(failed.error),
            },
        )


async def folded_streams(
    connection: AsyncConnection[Any], stream_ids: list[str]
) -> AsyncIterator[StreamFold]:
    """The streams of these ids, each folded to its end; those without events are left out."""
    cursor = await connection.execute(_SQL["of_streams"], {"stream_ids": stream_ids}, binary=True)
    records = map(codec.decode, await cursor.fetchall())
    for stream_id, stream in groupby(records, key=lambda record: record.stream_id):
        fold = StreamFold(stream_id)
        for record in stream:
            fold.take(record)
        yield fold


def _bounds(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "transaction_id": str(checkpoint.transaction_id),
        "position": checkpoint.position,
    }


def _intent_of(stream_id: str) -> UUID | None:
    try:
        return intent_of(stream_id)
    except ValueError:
        return None


def _values(row: IntentRow) -> tuple[Any, ...]:
    outcome = None if row.outcome is None else Json(row.outcome)
    return (
        *(row.id, row.tenant_id, row.version, row.status, row.user_input, row.text_sha256),
        *(row.language, row.created_at, row.updated_at, row.expected_by, row.completed_at),
        outcome,
    )
