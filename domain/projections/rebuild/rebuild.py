"""Rebuilds a projection from the log in copies of its tables, then puts these in their place.

The copies and the position of the rebuild change in the same transactions, so an interrupted
rebuild continues where it was. It only writes tables: no messages, model calls or vectors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.database.locking import retry_locking
from domain.database.statements import load_statements
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.projections.following.runner import stop_runners
from domain.projections.rebuild.contract import (
    Builder,
    OnProgress,
    Position,
    Progress,
    RebuildFailed,
    RebuildPlan,
    Rebuilt,
)
from domain.projections.rebuild.following import follower_of_rebuild, move_follower
from domain.projections.rebuild.ledger import Ledger
from domain.projections.rebuild.shadow import Shadow

_SQL = load_statements(Path(__file__).with_name("rebuild.sql"))

#: How long readers and writers may have to wait for one try of the exchange.
LOCK_TIMEOUT = "1s"
MAX_SWAP_TRIES = 60


class Rebuild:
    """One rebuild of one projection, by the owner of its tables.

    Args:
        pool: connections of the tables' owner; at least three.
        builder: builds the tables.
        on_progress: called after each page.
        rate: most events per second; None for no limit.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        builder: Builder,
        on_progress: OnProgress,
        rate: float | None = None,
    ) -> None:
        self._pool = pool
        self._log = EventLog(pool)
        self._builder = builder
        self._shadow = Shadow(builder.name, builder.tables)
        self._ledger = Ledger(builder.name, builder.version)
        self._on_progress = on_progress
        self._rate = rate
        self._resumed_from = 0

    async def plan(self) -> RebuildPlan:
        """What `run` would do; changes nothing.

        Raises:
            RebuildFailed: the connection is not the tables' owner's.
        """
        async with self._pool.connection() as connection:
            await self._check_owner(connection)
            position = await self._ledger.load(connection)
            events = await self._ledger.events(connection)
        done = position.events if position else 0
        return RebuildPlan(self._builder.name, self._builder.tables, events, done)

    async def run(self) -> Rebuilt:
        """Build, check and exchange the tables; continues an interrupted rebuild if there is one.

        Raises:
            RebuildFailed: the connection is not the tables' owner's, another rebuild is running,
                the check failed, or the live tables could not be locked. The live tables are then
                unchanged.
        """
        async with self._alone() as connection:
            await self._check_owner(connection)
            position = await self._ledger.load(connection) or await self._begin(connection)
            async with self._transaction(connection, lock="60s"):
                self._builder.begin(await self._ledger.take_over(connection))
            self._resumed_from = position.events
            position = await self._build(connection, position)
            return await self._finish(connection, position)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[AsyncConnection[Any]]:
        """The connection that does all writes; it holds the lock, so losing it ends the rebuild."""
        async with self._pool.connection() as connection:
            params = {"name": self._builder.name}
            [[locked]] = await (await connection.execute(_SQL["try_lock"], params)).fetchall()
            if not locked:
                raise RebuildFailed(f"another rebuild of {self._builder.name} is running")
            try:
                yield connection
            finally:
                await self._builder.aclose()
                if not connection.closed:
                    await connection.execute(_SQL["unlock"], params)

    async def _check_owner(self, connection: AsyncConnection[Any]) -> None:
        if others := await self._shadow.owners(connection):
            named = ", ".join(f"{table} (of {owner})" for table, owner in others)
            raise RebuildFailed(
                f"this login does not own {named}: set DATABASE_ADMIN_URL to the owner's, "
                "with which migrations are applied"
            )

    async def _begin(self, connection: AsyncConnection[Any]) -> Position:
        phase = self._builder.first_phase
        start = await self._log.heads() if phase == "bulk" else Heads.start()
        position = Position(phase, 0, start, 0)
        try:
            async with self._transaction(connection):
                await self._shadow.drop(connection)
                await self._shadow.create(connection)
                if phase == "follow":
                    await self._shadow.create_indexes(connection)
                    await self._forget_follower(connection)
                await self._ledger.begin(connection, position)
        except pg.InsufficientPrivilege as error:
            raise RebuildFailed(
                f"{error.diag.message_primary}: the tables' owner must be allowed to make schemas "
                "(grant create on database … to …)"
            ) from None
        return position

    async def _build(self, connection: AsyncConnection[Any], position: Position) -> Position:
        if position.phase == "bulk":
            position = await self._advance(connection, position)
        self._tell("index", position)
        async with self._transaction(connection):
            await self._shadow.create_indexes(connection)
            await self._shadow.analyze(connection)
        return await self._advance(connection, position)

    async def _advance(self, connection: AsyncConnection[Any], position: Position) -> Position:
        """Process pages to the end of the phase; following ends at a page that is not full.

        With concurrent writers there is always one more event; the exchange processes the rest.
        """
        phase = position.phase
        loop = asyncio.get_running_loop()
        began, first = loop.time(), position.events
        while position.phase == phase:
            async with self._transaction(connection):
                await self._shadow.use(connection)
                next_ = await self._builder.advance(connection, position)
                if next_ is None:
                    break
                await self._ledger.save(connection, next_)
            taken = next_.events - position.events
            position = next_
            self._tell(phase, position)
            if phase == "follow" and taken < self._builder.page:
                break
            if self._rate is not None:
                ahead = (position.events - first) / self._rate - (loop.time() - began)
                await asyncio.sleep(max(ahead, 0.0))
        return position

    async def _finish(self, connection: AsyncConnection[Any], position: Position) -> Rebuilt:
        self._tell("check", position)
        async with self._transaction(connection):
            await self._shadow.use(connection)
            if wrong := await self._builder.check(connection, position):
                raise RebuildFailed(
                    f"{wrong} streams differ from the log: the live tables were left unchanged"
                )
        tries = 0

        async def swap() -> Rebuilt:
            nonlocal position, tries
            if tries:
                position = await self._advance(connection, position)
            tries += 1
            self._tell("swap", position)
            position, parked = await self._swap(connection, position)
            return Rebuilt(self._builder.name, position.events, self._resumed_from, tries, parked)

        rebuilt = await retry_locking(swap, MAX_SWAP_TRIES)
        if rebuilt is not None:
            self._tell("done", position)
            return rebuilt
        raise RebuildFailed(
            "the live tables could not be locked: end the long transactions that use them "
            "(pg_stat_activity) and run it again; it goes on from here"
        )

    async def _swap(
        self, connection: AsyncConnection[Any], position: Position
    ) -> tuple[Position, int]:
        """Exchange the tables; returns the new position and the number of parked streams."""
        builder, shadow = self._builder, self._shadow
        name = {"name": builder.name}
        # Process what came since the last page before the lock, so that others wait briefly.
        async with self._transaction(connection):
            await shadow.use(connection)
            position = await builder.catch_up(connection, position)
            await self._ledger.save(connection, position)
        async with self._transaction(connection, lock=LOCK_TIMEOUT, durable="on"):
            if builder.follower is not None:
                await stop_runners(connection, builder.name)
            await shadow.lock_live(connection)
            if await self._ledger.load(connection) is None:
                raise RebuildFailed(
                    "the schema was changed meanwhile: run it again, it starts over"
                )
            await shadow.use(connection)
            position = await builder.catch_up(connection, position)
            await connection.execute(_SQL["forget_parked"], name)
            parked = (await connection.execute(_SQL["take_parked"], name)).rowcount
            await shadow.exchange(connection)
            if builder.follower is not None:
                await move_follower(connection, builder.follower, position.heads)
                await self._forget_follower(connection)
            await connection.execute(_SQL["built"], {**name, "version": builder.version})
            await self._ledger.forget(connection)
        return position, parked

    async def _forget_follower(self, connection: AsyncConnection[Any]) -> None:
        params = {"follower": follower_of_rebuild(self._builder.name)}
        await connection.execute(_SQL["forget_follower"], params)

    @asynccontextmanager
    async def _transaction(
        self, connection: AsyncConnection[Any], lock: str = "10s", durable: str = "off"
    ) -> AsyncIterator[None]:
        async with connection.transaction():
            params = {"lock": lock, "durable": durable}
            await connection.execute(_SQL["transaction_settings"], params)
            yield

    def _tell(self, stage: Any, position: Position) -> None:  # noqa: ANN401 one of Progress.stage
        self._on_progress(
            Progress(
                stage, position.events, max(self._ledger.total, position.events), self._resumed_from
            )
        )
