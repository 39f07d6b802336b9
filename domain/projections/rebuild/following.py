"""Builds a projection that follows the log, by following it from the beginning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, sql

from domain.database.statements import load_statements
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.projections.following.batch import apply_batch
from domain.projections.following.contract import Projection
from domain.projections.following.runner import follower_of
from domain.projections.rebuild.contract import Phase, Position

_SQL = load_statements(Path(__file__).with_name("following.sql"))


class FollowingBuilder:
    """Builds ``projection`` with the same code that keeps it up to date."""

    first_phase: Phase = "follow"

    def __init__(self, log: EventLog, projection: Projection[Any], page: int) -> None:
        self.name = projection.name
        self.version = projection.version
        self.tables = (*projection.tables, f"{projection.name}_streams")
        self.follower = follower_of(projection.name)
        self._log = log
        self._projection = projection
        self.page = page

    async def aclose(self) -> None:
        """It has nothing to release."""

    async def advance(
        self, connection: AsyncConnection[Any], position: Position
    ) -> Position | None:
        """Process one page of events; None at the current end of the log."""
        page, end = await self._log.read_all(position.heads, self.page)
        if not page:
            return None
        await apply_batch(connection, self._projection, page)
        return replace(position, heads=end, events=position.events + len(page))

    async def catch_up(self, connection: AsyncConnection[Any], position: Position) -> Position:
        """Process events at least as far as the live tables; their runner is stopped."""
        rows = await connection.execute(_SQL["live_positions"], {"follower": self.follower})
        read = [position for (positions,) in await rows.fetchall() for position in positions]
        live = Heads(tuple(read)) if read else Heads.start()
        while not position.heads.reaches(live) and (
            next_ := await self.advance(connection, position)
        ):
            position = next_
        return position

    async def check(self, connection: AsyncConnection[Any], position: Position) -> int:
        """The number of streams whose mark is not their last version at ``position``."""
        statement = sql.SQL(_SQL["wrong"].decode()).format(
            streams=sql.Identifier(f"{self.name}_streams")
        )
        params = {"projection": self.name, "heads": [*position.heads.positions]}
        rows = await connection.execute(statement, params)
        [(wrong,)] = await rows.fetchall()
        return int(wrong)
