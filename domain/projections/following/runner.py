"""Keeps a projection up to date with the log."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.checkpoints import CheckpointStore, Lease
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

#: Events per transaction.
PAGE = 1_000

#: How long one run may take, in seconds; the next one continues.
RUN_SECONDS = 20.0

#: How long to wait for another process that runs the same projection, in seconds.
LOCK_TIMEOUT_SECONDS = 1.0


class ProjectionOutdated(RuntimeError):
    """The live tables were built by another version of the code."""


def checkpoint_name(projection: str) -> str:
    """The name of a projection's checkpoint and lease."""
    return f"projection:{projection}"


class Runner:
    """Updates one projection; one runner works at a time, among all processes.

    A batch is folded, written and checkpointed in one transaction, so a crash leaves either all of
    it or nothing.
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
        self._checkpoints = CheckpointStore(pool)
        self._page = page

    async def run_until_caught_up(self, seconds: float = RUN_SECONDS) -> int:
        """Process events after the checkpoint, for ``seconds`` at most.

        Returns:
            the number of events read; 0 also if another process is running the projection.

        Raises:
            ProjectionOutdated: the tables must be rebuilt first.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        count = 0
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(LOCK_TIMEOUT_SECONDS):
                    lease = await held.enter_async_context(self._exclusive())
            except TimeoutError:
                return 0
            while asyncio.get_running_loop().time() < deadline:
                read = await self._run_batch(lease)
                count += read
                if read < self._page:
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
        async with self._exclusive() as lease, lease.transaction() as connection:
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

    async def _run_batch(self, lease: Lease) -> int:
        # Read before the transaction, whose id would hold back the horizon for the reading.
        page = await self._log.read_all(await lease.load(), self._page)
        if page:
            async with lease.transaction() as connection:
                await self._check_version(connection)
                await apply_batch(connection, self.projection, page)
                await lease.save(page[-1].checkpoint)
        return len(page)

    def _exclusive(self) -> AbstractAsyncContextManager[Lease]:
        return self._checkpoints.exclusive(checkpoint_name(self.projection.name))

    async def _check_version(self, connection: AsyncConnection[Any]) -> None:
        name, version = self.projection.name, self.projection.version
        built = await built_by(connection, name)
        if built != version:
            raise ProjectionOutdated(
                f"{name} was built by version {built} of its code, this is version {version}: "
                f"run `qlp projections rebuild {name}`"
            )
