"""Checkpoints of the log's followers, and leases, which let one process follow at a time."""

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
    """The exclusive right to follow the log under one name.

    It uses the connection that holds the lock: if that is lost, `save` fails, so a former holder
    cannot move the checkpoint of the next one.
    """

    def __init__(self, connection: AsyncConnection[Any], name: str) -> None:
        self._connection = connection
        self._name = name

    async def load(self) -> Checkpoint:
        """The saved checkpoint; the start of the log for a new name.

        If the log was restored with transaction ids other than those of the checkpoint, the
        checkpoint is re-based by its position: no event is skipped, some may be repeated.
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
        """Save a checkpoint, which may be before the last one, to rewind.

        Raises:
            psycopg.OperationalError: the connection was lost, and the lease with it.
        """
        await self._execute("save", checkpoint.params())

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

    async def _execute(self, statement: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await self.fetch(_SQL[statement], {"name": self._name, **params})


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

    async def of(self, name: str) -> Checkpoint:
        """The checkpoint of a follower; the start of the log if it has none."""
        saved = {follower: checkpoint for follower, checkpoint, _ in await self.all()}
        return saved.get(name, Checkpoint.start())

    async def all(self) -> list[tuple[str, Checkpoint, datetime]]:
        """Name, checkpoint and time of the last save, of every follower."""
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
            # After lock_timeout, start again: a waiting statement keeps its snapshot, and vacuum
            # cannot remove rows that died since.
            continue
