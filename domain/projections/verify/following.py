"""Compares a projection that follows the log with a fresh fold of the log, row by row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool

from domain.database.statements import load_statements
from domain.eventlog.followers import Followers
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.eventlog.models import RecordedEvent
from domain.projections.following.batch import apply_batch
from domain.projections.following.contract import Projection
from domain.projections.following.runner import PAGE, follower_of
from domain.projections.rebuild.shadow import PARKED
from domain.projections.verify.contract import (
    MAX_SHOWN,
    CannotCompare,
    Difference,
    Verified,
    difference,
)

_SQL = load_statements(Path(__file__).with_name("verify.sql"))

#: Differing rows of a table that are counted at most.
MAX_DIFFERING = 10_000


async def verify_following(pool: AsyncConnectionPool, projection: Projection[Any]) -> Verified:
    """Fold the log into temporary tables and compare them with the live ones.

    The runner keeps working meanwhile, except during the last events and the comparison.

    Raises:
        CannotCompare: the live rows include events of a later release.
    """
    followers, follower, log = Followers(pool), follower_of(projection.name), EventLog(pool)
    async with _fresh_tables(pool, projection) as connection:
        fresh = _Fresh(log, connection, projection)
        await fresh.follow((await followers.heads(follower)).within(await log.heads()))
        # To the end of the session, which is closed.
        await connection.execute(_SQL["stop_runners"], {"follower": follower})
        await fresh.follow((await followers.heads(follower)).within(await log.heads()))
        await fresh.follow_resumed()
        unfoldable = await _unfoldable(connection, projection)
        return await _compare(connection, projection, unfoldable)


class _Fresh:
    """The projection in temporary tables."""

    def __init__(
        self, log: EventLog, connection: AsyncConnection[Any], projection: Projection[Any]
    ) -> None:
        self._log = log
        self._connection = connection
        self._projection = projection
        self._heads = Heads.start()

    async def follow(self, to: Heads) -> None:
        """Process the events up to ``to``."""
        async with aclosing(self._log.follow(self._heads, to, PAGE)) as pages:
            async for page in pages:
                await self._take(page)
        self._heads = self._heads.union(to)

    async def follow_resumed(self) -> None:
        """Process later events, of streams that were resumed beyond where the projection is."""
        rows = await self._connection.execute(_on(f"{self._projection.name}_streams", "ahead"))
        for stream_id, to, after in await rows.fetchall():
            done = after
            while page := await self._log.read_stream(stream_id, done, min(PAGE, to - done)):
                await self._take(page)
                done = page[-1].version
                if done == to:
                    break

    async def _take(self, records: Sequence[RecordedEvent]) -> None:
        async with self._connection.transaction():
            await apply_batch(self._connection, self._projection, records)


@asynccontextmanager
async def _fresh_tables(
    pool: AsyncConnectionPool, projection: Projection[Any]
) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection on which unqualified table names mean new, empty temporary tables."""
    async with pool.connection() as connection:
        try:
            await connection.execute(_SQL["no_time_limit"])
            for table in (*projection.tables, f"{projection.name}_streams", PARKED):
                await connection.execute(_on(table, "fresh_table"))
            yield connection
        finally:
            await connection.close()  # drops the tables and settings


async def _unfoldable(connection: AsyncConnection[Any], projection: Projection[Any]) -> int:
    """The number of streams that were parked.

    Raises:
        CannotCompare: the live tables include events that only a later release can read.
    """
    streams = sql.Identifier(f"{projection.name}_streams")
    statement = sql.SQL(_SQL["parked_here"].decode()).format(streams=streams)
    [[parked, taken]] = await (await connection.execute(statement)).fetchall()
    if taken:
        raise CannotCompare(
            f"{projection.name} has processed {taken} streams further than this release can read: "
            "verify it with the later release that did"
        )
    return int(parked)


async def _compare(
    connection: AsyncConnection[Any], projection: Projection[Any], unfoldable: int
) -> Verified:
    compared = differing = 0
    shown: list[Difference] = []
    for table in projection.tables:
        key_rows = await connection.execute(_SQL["key"], {"table": f"public.{table}"})
        key = [column for (column,) in await key_rows.fetchall()]
        [[rows]] = await (await connection.execute(_on(table, "rows_of"))).fetchall()
        sides = await _differing(connection, table, key)
        compared += max(rows, len(sides))
        differing += len(sides)
        for values, (folded, live) in list(sides.items())[: MAX_SHOWN - len(shown)]:
            found = difference(table, dict(zip(key, values, strict=True)), folded, live)
            if found is not None:
                shown.append(found)
    return Verified(projection.name, compared, differing, shown, unfoldable)


async def _differing(
    connection: AsyncConnection[Any], table: str, key: Sequence[str]
) -> dict[tuple[Any, ...], list[dict[str, Any] | None]]:
    """The rows from the log and the live rows that differ, by key."""
    rows = await connection.execute(_on(table, "differing"), {"limit": MAX_DIFFERING})
    sides: dict[tuple[Any, ...], list[dict[str, Any] | None]] = {}
    for is_live, row in await rows.fetchall():
        values = tuple(row[column] for column in key)
        sides.setdefault(values, [None, None])[is_live] = row
    return sides


def _on(table: str, statement: str) -> sql.Composed:
    return sql.SQL(_SQL[statement].decode()).format(table=sql.Identifier(table))
