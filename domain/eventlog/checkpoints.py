"""The checkpoint of sealing, which goes by transaction ids, and the lease of who seals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from psycopg import AsyncConnection
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch_over
from domain.database.statements import load_statements
from domain.eventlog.log import EventLog
from domain.eventlog.models import Checkpoint

_SQL = load_statements(Path(__file__).with_name("checkpoints.sql"))


class Lease:
    """The exclusive right to work under one name.

    It uses the connection that holds the lock: if that is lost, `save` fails, so a former holder
    cannot move the checkpoint of the next one.
    """

    def __init__(self, connection: AsyncConnection[Any], name: str) -> None:
        self._connection = connection
        self._name = name

    async def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint, which may be before the last one, to rewind.

        Raises:
            psycopg.OperationalError: the connection was lost, and the lease with it.
        """
        await self.fetch(_SQL["save"], {"name": self._name, **checkpoint.params()})

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction on the lease's connection, for writes that are committed with `save`."""
        async with self._connection.transaction():
            yield self._connection

    async def fetch(self, statement: bytes, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run one statement on the lease's connection; its rows, none where it returns none.

        So all reads and writes go to the same database. Another connection of the pool may be
        newer, and lead to a database that was restored meanwhile.

        Raises:
            psycopg.OperationalError: the connection was lost, and the lease with it.
        """
        return await fetch_over(self._connection, statement, params)


class CheckpointStore:
    """Named checkpoints; each name's lease has one holder at a time, among all processes."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._log = EventLog(pool)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[Lease]:
        """Wait for the lease of ``name`` and hold it; takes one connection of the pool.

        Only one task of a process waits in the database; the others wait for that task, so that
        they do not use up the pool.
        """
        turn = self._turns.setdefault(name, asyncio.Lock())
        async with turn:
            await self._log.adopt_if_moved()
            async with self._pool.connection() as connection:
                try:
                    await _lock(connection, name)
                    yield Lease(connection, name)
                    await connection.execute(_SQL["unlock"], {"name": name})
                except BaseException:
                    # It is unknown whether the lock is held; closing the connection releases it.
                    await connection.close()
                    raise


async def _lock(connection: AsyncConnection[Any], name: str) -> None:
    while True:
        try:
            await connection.execute(_SQL["lock"], {"name": name})
            return
        except pg.LockNotAvailable:
            # After lock_timeout, start again: a waiting statement keeps its snapshot, and vacuum
            # cannot remove rows that died since.
            continue
