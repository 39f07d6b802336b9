"""How far each follower of the log has come, and who may follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
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
    """The right to follow the log under one name.

    It lives on the connection that holds the lock: if that breaks, `save` fails, so a follower
    that has lost its right cannot move the checkpoint of the next one.
    """

    def __init__(self, connection: AsyncConnection[Any], name: str) -> None:
        self._connection = connection
        self._name = name

    async def load(self) -> Checkpoint:
        """The saved checkpoint; the start for a new name.

        Where the log was restored with other transaction ids than the checkpoint was saved under,
        the checkpoint is re-based on its position: nothing is skipped, events may be repeated.
        """
        rows = await self._execute("load", {})
        if not rows:
            return Checkpoint.start()
        [(transaction_id, position, holds)] = rows
        if holds:
            return Checkpoint(transaction_id, position)
        rows = await self._execute("rebase", {"position": position})
        return Checkpoint(*rows[0]) if rows else Checkpoint.start()

    async def save(self, checkpoint: Checkpoint) -> None:
        """Save the checkpoint, be it ahead of the last one or, to rewind, behind it.

        Raises:
            psycopg.OperationalError: the connection is gone, and with it the right.
        """
        await self._execute("save", checkpoint.params())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction on the lease's connection: what is written in it moves with `save`."""
        async with self._connection.transaction():
            yield self._connection

    async def fetch(self, statement: bytes, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run one statement on the lease's connection; its rows, none where it returns none.

        What is read and written like that is read and written in one database. Another connection
        of the pool may have been made later, to one that was restored meanwhile.

        Raises:
            psycopg.OperationalError: the connection is gone, and with it the right.
        """
        return await fetch_over(self._connection, statement, params)

    async def _execute(self, statement: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await self.fetch(_SQL[statement], {"name": self._name, **params})


class CheckpointStore:
    """Named checkpoints; at most one holder of each name's lease in the whole system."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._log = EventLog(pool)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[Lease]:
        """Wait for the lease of ``name`` and hold it, with one connection of the pool.

        Only one task of a process waits in the database, the others wait for that one, so that
        waiting cannot use up the pool.
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
                    # Whether the lock is held is uncertain now; closing surely gives it up.
                    await connection.close()
                    raise

    async def of(self, name: str) -> Checkpoint:
        """The checkpoint of a follower; the start of the log if it has none."""
        saved = {follower: checkpoint for follower, checkpoint, _ in await self.all()}
        return saved.get(name, Checkpoint.start())

    async def all(self) -> list[tuple[str, Checkpoint, datetime]]:
        """Name, checkpoint and time of its last move, of every follower."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_SQL["all"], binary=True)
            return [
                (name, Checkpoint(transaction_id, position), moved)
                for name, transaction_id, position, moved in await cursor.fetchall()
            ]


async def _lock(connection: AsyncConnection[Any], name: str) -> None:
    while True:
        try:
            await connection.execute(_SQL["lock"], {"name": name})
            return
        except pg.LockNotAvailable:
            # lock_timeout: wait in slices, because a waiting statement keeps its snapshot and
            # with it every dead row that vacuum would remove.
            continue
