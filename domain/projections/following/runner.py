"""Keeps a projection up to date with the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.statements import load_statements
from domain.eventlog.followers import Followers, Page
from domain.eventlog.log import EventLog
from domain.projections.following.batch import apply_batch, mark_of
from domain.projections.following.contract import Projection
from domain.projections.following.parked import (
    ParkedStream,
    built_by,
    parked_stream,
    readable_again,
    unpark,
)

_SQL = load_statements(Path(__file__).with_name("runner.sql"))

#: Events per transaction.
PAGE = 1_000

#: How long one run may take, in seconds; the next one continues.
RUN_SECONDS = 20.0


class ProjectionOutdated(RuntimeError):
    """The live tables were built by another version of the code."""


def follower_of(projection: str) -> str:
    """The name under which a projection follows the log."""
    return f"projection:{projection}"


async def stop_runners(connection: AsyncConnection[Any], projection: str) -> None:
    """Wait for what updates a projection now, and keep it as it is to the end of the transaction.

    Raises:
        psycopg.errors.LockNotAvailable: it took longer than ``lock_timeout``.
    """
    await connection.execute(_SQL["stop"], {"follower": follower_of(projection)})


class Runner:
    """Updates one projection; any number of runners share the work, in all processes.

    A batch is folded, written and recorded as processed in one transaction, so a crash leaves
    either all of it or nothing.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        projection: Projection[Any],
        page: int = PAGE,
    ) -> None:
        self.projection = projection
        self._pool = pool
        self._log = EventLog(pool)
        self._followers = Followers(pool)
        self._page = page

    async def run_until_caught_up(self, seconds: float = RUN_SECONDS) -> int:
        """Process events that no other process is processing, for ``seconds`` at most.

        Returns:
            the number of events processed.

        Raises:
            ProjectionOutdated: the tables must be rebuilt first.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        count = 0
        while asyncio.get_running_loop().time() < deadline:
            page = await self._run_batch()
            if page is None or not page.saved:
                break
            count += len(page.events)
            if not page.more:
                break
        return count

    async def resume_readable(self, seconds: float = RUN_SECONDS) -> int:
        """Resume streams that an earlier release could not read, for ``seconds`` at most.

        Returns:
            the number of resumed streams.

        Raises:
            ProjectionOutdated: the tables must be rebuilt first.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        count = 0
        for stream_id in await readable_again(self._pool, self.projection.name):
            if asyncio.get_running_loop().time() > deadline:
                break
            with suppress(LookupError):  # another process was faster
                count += await self.resume(stream_id) is None
        return count

    async def resume(self, stream_id: str) -> ParkedStream | None:
        """Process the missing events of a parked stream and unpark it, in one transaction.

        Returns:
            the stream with its new error if it had to be parked again; None if it was resumed.

        Raises:
            LookupError: the stream is not parked.
            ProjectionOutdated: the tables must be rebuilt first.
        """
        name = self.projection.name
        async with self._pool.connection() as connection, connection.transaction():
            await stop_runners(connection, name)
            await self._check_version(connection)
            if await parked_stream(connection, name, stream_id) is None:
                raise LookupError(f"{name} has not parked {stream_id}")
            await unpark(connection, name, stream_id)
            after = await mark_of(connection, self.projection, stream_id)
            while page := await self._log.read_stream(stream_id, after, self._page):
                await apply_batch(connection, self.projection, page)
                if parked := await parked_stream(connection, name, stream_id):
                    return parked
                after = page[-1].version
        return None

    async def _run_batch(self) -> Page | None:
        """The events that were processed; none are saved while the projection is locked."""
        follower = follower_of(self.projection.name)
        async with self._followers.next_page(follower, most_events=self._page) as page:
            if page is not None and await self._may_run(page.connection):
                await self._check_version(page.connection)
                await apply_batch(page.connection, self.projection, page.events)
                page.save()
        return page

    async def _may_run(self, connection: AsyncConnection[Any]) -> bool:
        params = {"follower": follower_of(self.projection.name)}
        [(allowed,)] = await (await connection.execute(_SQL["run"], params)).fetchall()
        return bool(allowed)

    async def _check_version(self, connection: AsyncConnection[Any]) -> None:
        name, version = self.projection.name, self.projection.version
        built = await built_by(connection, name)
        if built != version:
            raise ProjectionOutdated(
                f"{name} was built by version {built} of its code, this is version {version}: "
                f"run `qlp projections rebuild {name}`"
            )
