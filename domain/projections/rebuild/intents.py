"""Builds the read model of intents, which is written inline, by folding streams.

In the phase ``bulk``, the log is read lane by lane: each stream of a lane is folded to its end and
its row written once, so memory holds only a page of events and the rows of a few lanes, however its
streams interleave. Streams that got events meanwhile are folded again in the phase ``follow``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from domain.database.statements import load_statements
from domain.eventlog.heads import Heads
from domain.eventlog.lanes import LANES
from domain.eventlog.log import EventLog
from domain.projections.following.parked import park
from domain.projections.intents import INTENT_STATES, upsert
from domain.projections.rebuild.contract import Phase, Position
from domain.projections.rebuild.workers import Folder
from domain.projections.registry import INTENT_STATES_VERSION
from domain.projections.stream_folds import FoldedLanes, Unfoldable, folded_streams

_SQL = load_statements(Path(__file__).with_name("intents.sql"))

#: A place after all events.
_END = Heads((2**62,) * LANES)


class _Lanes(NamedTuple):
    """Lanes up to ``end``, with so many events when the rebuild began, which are being folded."""

    end: int
    events: int
    folding: asyncio.Task[FoldedLanes]


class IntentStatesBuilder:
    """Builds ``intent_states``.

    A stream that cannot be folded keeps its row and is listed as parked.

    Args:
        log: the log.
        folder: folds lanes.
        page: number of events in lanes that are folded at once, if one has not more.
        later: after so many events, this folder replaces ``folder``.
    """

    name = INTENT_STATES
    version = INTENT_STATES_VERSION
    tables = (INTENT_STATES,)
    first_phase: Phase = "bulk"
    follower = None

    def __init__(
        self, log: EventLog, folder: Folder, page: int, later: tuple[int, Folder] | None = None
    ) -> None:
        self.page = page
        self._log = log
        self._folder = folder
        self._later = later
        self._taken = 0
        self._ahead: deque[_Lanes] = deque()

    def begin(self, run: UUID) -> None:
        """Its processes only read, so nothing that they do needs this run's name."""

    async def aclose(self) -> None:
        """Stop folding ahead."""
        foldings = [lanes.folding for lanes in self._ahead]
        self._ahead.clear()
        for folding in foldings:
            folding.cancel()
        await asyncio.gather(*foldings, return_exceptions=True)
        await self._folder.aclose()

    async def advance(
        self, connection: AsyncConnection[Any], position: Position
    ) -> Position | None:
        """Process one page of events; None at the current end of the log."""
        if position.phase == "bulk":
            return await self._bulk(connection, position)
        return await self._follow(connection, position)

    async def catch_up(self, connection: AsyncConnection[Any], position: Position) -> Position:
        """Process every committed event.

        A writer that has not committed waits for the lock on the live table and writes its row
        after the exchange.
        """
        await self._refold(connection, position.heads, _END)
        return position

    async def check(self, connection: AsyncConnection[Any], position: Position) -> int:
        """The number of rows that are behind their stream, or do not match one."""
        rows = await connection.execute(_SQL["wrong"], {"heads": [*position.heads.positions]})
        [(wrong,)] = await rows.fetchall()
        return int(wrong)

    async def _bulk(self, connection: AsyncConnection[Any], position: Position) -> Position:
        if not self._ahead and not self._fold_next(position.heads, position.lanes):
            return replace(position, phase="follow")
        lanes = self._ahead.popleft()
        folded = await lanes.folding
        # The next lanes are read and folded while the rows of these are written.
        last = self._ahead[-1].end if self._ahead else lanes.end
        while len(self._ahead) < self._folder.ahead and self._fold_next(position.heads, last):
            last = self._ahead[-1].end
        async with connection.cursor().copy(_SQL["copy"]) as copy:
            await copy.write(folded.rows)
        for failed in folded.unfoldable:
            await self._keep(connection, failed)
        self._taken += folded.events
        if self._later is not None and self._taken >= self._later[0]:
            (_, self._folder), self._later = self._later, None
        return replace(position, lanes=lanes.end, events=position.events + lanes.events)

    def _fold_next(self, heads: Heads, first: int) -> bool:
        """Start to fold the next lanes, from ``first`` on; False if there are none."""
        if first == LANES:
            return False
        end, events = first + 1, heads.positions[first]
        while end < LANES and events + heads.positions[end] <= self.page:
            events, end = events + heads.positions[end], end + 1
        folding = asyncio.create_task(self._folder.fold(first, end))
        self._ahead.append(_Lanes(end, events, folding))
        return True

    async def _follow(
        self, connection: AsyncConnection[Any], position: Position
    ) -> Position | None:
        end = position.heads.step(await self._log.heads(), self.page)
        events = position.heads.events_to(end)
        if not events:
            return None
        await self._refold(connection, position.heads, end)
        return replace(position, heads=end, events=position.events + events)

    async def _refold(self, connection: AsyncConnection[Any], after: Heads, to: Heads) -> None:
        """Fold streams again that have events between two places which their rows lack."""
        rows = await connection.execute(_SQL["behind"], after.range_to(to))
        behind = [stream_id for (stream_id,) in await rows.fetchall()]
        for start in range(0, len(behind), 100):
            async for fold in folded_streams(connection, behind[start : start + 100]):
                if (row := fold.row()) is not None:
                    write = upsert(row)
                    await connection.execute(write.statement, write.params)
                elif (failed := fold.unfoldable()) is not None:
                    await self._keep(connection, failed)

    async def _keep(self, connection: AsyncConnection[Any], failed: Unfoldable) -> None:
        await connection.execute(_SQL["forget_copy"], {"id": failed.intent_id})
        await connection.execute(_SQL["keep_live"], {"id": failed.intent_id})
        at = (failed.stream_id, failed.version, failed.event_id)
        await park(connection, INTENT_STATES, *at, failed.error)
