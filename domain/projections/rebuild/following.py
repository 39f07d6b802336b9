"""Builds a projection that follows the log, by following it from the beginning.

Several processes can share the work: they follow as `domain.eventlog.followers` lets any do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool

from domain.database.statements import load_statements
from domain.eventlog.followers import Followers
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.projections.following.batch import apply_batch
from domain.projections.following.contract import Projection
from domain.projections.following.runner import follower_of
from domain.projections.rebuild.contract import Phase, Position
from domain.projections.rebuild.following_processes import FollowingProcesses

_SQL = load_statements(Path(__file__).with_name("following.sql"))


def follower_of_rebuild(projection: str) -> str:
    """The name under which the processes of a rebuild follow the log."""
    return f"rebuild:{projection}"


async def move_follower(connection: AsyncConnection[Any], follower: str, heads: Heads) -> None:
    """Let a follower go on from a place; whoever works on a page of it is waited for."""
    params = {"follower": follower, "heads": [*heads.positions]}
    await connection.execute(_SQL["move_follower"], params)


def tables_of(projection: Projection[Any]) -> tuple[str, ...]:
    """The tables that are rebuilt: the projection's, and the marks of streams."""
    return (*projection.tables, f"{projection.name}_streams")


class FollowingBuilder:
    """Builds ``projection`` with the same code that keeps it up to date.

    Args:
        pool: connections of the tables' owner.
        projection: the projection.
        page: events per transaction.
        processes: share the work, if there is enough of it; None: this process does it.
    """

    first_phase: Phase = "follow"

    def __init__(
        self,
        pool: AsyncConnectionPool,
        projection: Projection[Any],
        page: int,
        processes: FollowingProcesses | None = None,
    ) -> None:
        self.name = projection.name
        self.version = projection.version
        self.tables = tables_of(projection)
        self.follower = follower_of(projection.name)
        self._pool, self._log = pool, EventLog(pool)
        self._projection = projection
        self._processes = processes
        self._end: Heads | None = None
        self._run: UUID | None = None
        self.page = page

    def begin(self, run: UUID) -> None:
        """Name this run to the processes."""
        self._run = run

    async def aclose(self) -> None:
        """Stop the processes."""
        if self._processes is not None:
            await self._processes.aclose()

    async def advance(
        self, connection: AsyncConnection[Any], position: Position
    ) -> Position | None:
        """Process one page of events, or several in processes; None at the current end."""
        if self._processes is not None:
            if self._end is not None or await self._begun(self._processes, position):
                return await self._shared(self._processes, position)
            self._processes = None
        page, end = await self._log.read_all(position.heads, self.page)
        if not page:
            return None
        await apply_batch(connection, self._projection, page)
        return replace(position, heads=end, events=position.events + len(page))

    async def _begun(self, processes: FollowingProcesses, position: Position) -> bool:
        """Start the processes where the work has stopped; False if it is not worth it."""
        end = await self._log.heads()
        if position.heads.events_to(end) < processes.alone_until:
            return False
        follower = follower_of_rebuild(self.name)
        heads = position.heads.union(await Followers(self._pool).heads(follower))
        async with self._pool.connection() as connection:
            await move_follower(connection, follower, heads)
        assert self._run is not None
        await processes.start(self.name, self._run, self.page)
        self._end = end
        return True

    async def _shared(self, processes: FollowingProcesses, position: Position) -> Position:
        followers, follower = Followers(self._pool), follower_of_rebuild(self.name)
        assert self._end is not None
        heads, more, reached = position.heads, True, False
        # They are ahead of their reports, so as many are not awaited twice.
        while (
            more
            and not (reached := heads.reaches(self._end))
            and sum(heads.positions) < position.events + self.page
        ):
            more = await processes.report()
            heads = await followers.heads(follower)
        if not more or reached:
            await processes.stop()
            heads = await followers.heads(follower)
            self._processes = None
        return replace(position, heads=heads, events=sum(heads.positions))

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
