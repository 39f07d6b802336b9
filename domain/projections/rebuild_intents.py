"""Builds the read model of intents, which is written inline, by folding streams.

In bulk the log is read by stream, not in its own order: each stream is folded to its end and its
row written once, so memory holds a page of events and the rows of two ranges, however long the log
is and however streams interleave in it. What comes in meanwhile is then followed in the log's
order: streams that have moved are folded again.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.types.json import Json

from domain.eventlog.models import Checkpoint
from domain.projections.intents import IntentRow, upsert
from domain.projections.rebuild_contract import Phase, Position
from domain.projections.rebuild_fold import (
    FoldedRange,
    Unfoldable,
    fold_range,
    folded_streams,
)
from domain.projections.registry import INTENT_STATES, INTENT_STATES_VERSION
from domain.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("rebuild_intents.sql"))

#: After every event there is or will be.
_END = Checkpoint(2**62, 2**62)


class _Range(NamedTuple):
    """Streams up to and with ``to``, which are being folded."""

    to: str
    folding: asyncio.Task[FoldedRange]


class IntentStatesBuilder:
    """Builds ``intent_states``.

    A stream that cannot be folded keeps the row that it has, and is listed as parked.
    """

    name = INTENT_STATES
    version = INTENT_STATES_VERSION
    tables = (INTENT_STATES,)
    first_phase: Phase = "bulk"
    lease = None

    def __init__(self, url: str, page: int) -> None:
        self.page = page
        self._url = url
        self._next: _Range | None = None

    def close(self) -> None:
        """Stop folding ahead."""
        if self._next is not None:
            self._next.folding.cancel()

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
        range_ = self._next or await self._range_after(connection, position.after_stream)
        if range_ is None:
            return replace(position, phase="follow")
        folded = await range_.folding
        # The next streams are read and folded while the rows of these are written.
        self._next = await self._range_after(connection, range_.to)
        async with connection.cursor() as cursor, cursor.copy(_SQL["copy"]) as copy:
            for row in folded.rows:
                await copy.write_row(_values(row))
        for failed in folded.unfoldable:
            await self._keep(connection, failed)
        return replace(position, after_stream=range_.to, events=position.events + folded.events)

    async def _range_after(self, connection: AsyncConnection[Any], after: str) -> _Range | None:
        params = {"after": after, "limit": self.page}
        row = await (await connection.execute(_SQL["range_end"], params)).fetchone()
        if row is None:
            return None
        folding = asyncio.to_thread(fold_range, self._url, after, row[0])
        return _Range(row[0], asyncio.create_task(folding))

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
                elif (failed := fold.unfoldable()) is not None:
                    await self._keep(connection, failed)

    async def _keep(self, connection: AsyncConnection[Any], failed: Unfoldable) -> None:
        await connection.execute(_SQL["keep_live"], {"id": failed.intent_id})
        await connection.execute(_SQL["park"], failed._asdict())


def _bounds(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "transaction_id": str(checkpoint.transaction_id),
        "position": checkpoint.position,
    }


def _values(row: IntentRow) -> tuple[Any, ...]:
    outcome = None if row.outcome is None else Json(row.outcome)
    return (
        *(row.id, row.tenant_id, row.version, row.status, row.user_input, row.text_sha256),
        *(row.language, row.created_at, row.updated_at, row.expected_by, row.completed_at),
        outcome,
    )
