"""Connections to PostgreSQL."""

from __future__ import annotations

import asyncio
import math
import os
import select
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson
import psycopg
from pgvector.psycopg.vector import register_vector_info
from psycopg import AsyncConnection, BaseConnection, DataError, adapters
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format
from psycopg.rows import TupleRow
from psycopg.types import TypeInfo
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg.types.numeric import Int8BinaryLoader, IntLoader
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from domain.database.outages import UNREACHABLE, describe_outage, outage_of
from domain.database.sign_in import needs_token, with_token
from domain.database.statements import load_statements

#: How long a caller waits for a connection, in seconds.
CHECKOUT_SECONDS = 10.0

#: How long a connection may take to be there, in seconds; what a URL says of it does not count.
CONNECT_SECONDS = 10

#: A server that says nothing for so long has been lost, whatever the network pretends: it ends
#: statements itself after 30 seconds. Seconds.
ANSWER_SECONDS = 40.0

_SESSION = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "timezone": "UTC",
    # Similarity search: docs/benchmarks.md has the figures.
    "hnsw.ef_search": "120",
    "hnsw.iterative_scan": "relaxed_order",
    "ivfflat.probes": "20",
    "ivfflat.iterative_scan": "relaxed_order",
}

_XID8 = 5069  # pg_type.dat

#: The first and the last moment that Python has.
_EARLIEST, _LATEST = (moment.replace(tzinfo=UTC) for moment in (datetime.min, datetime.max))

_SQL = load_statements(Path(__file__).with_name("pool.sql"))

#: Set by each session for itself, and what poolers say to that which know only some settings.
_KEPT, _OF_A_POOLER = "qlp.session", "unsupported startup parameter"

#: Connections are replaced all at once, because of a stale one, no more often than this, seconds.
_RENEWED_SECONDS = 1.0

_UNREACHABLE = f"the database {UNREACHABLE.problem}: "

#: Whoever waited in vain for a connection is told what kept it away, if that is not older, seconds.
_TOLD_SECONDS = 60.0

Answer = TypeVar("Answer")


class PoolerInBetween(psycopg.OperationalError):
    """Whoever answers does not keep what a session is told, as PgBouncer in transaction mode."""

    def __init__(self) -> None:
        super().__init__(
            "a pooler answers that does not keep what a session is told (PgBouncer?): "
            "connect to PostgreSQL itself, on Azure to port 5432 in place of 6432"
        )


class Connection(AsyncConnection[TupleRow]):
    """A connection that tells of what the server says of itself; see `domain.database.outages`.

    It is to PostgreSQL itself: leases are locks of a session, statements are prepared in one, and
    roles and limits are set for one.

    Attributes:
        stale: it must not be used again.
        expects_refusals: see `refusals_expected`.
        answer_seconds: see `open_pool`.
    """

    stale = False
    expects_refusals = False
    answer_seconds: float | None = None

    @classmethod
    def on_outage(cls, error: psycopg.Error) -> None:
        """Told of each outage that a connection of this class meets."""

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """See `psycopg.AsyncConnection.connect`; without a limit it takes `CONNECT_SECONDS`.

        Raises:
            PoolerInBetween: a pooler answered that keeps no sessions.
            psycopg.OperationalError: there is no connection, or no first answer over it in time.
        """
        seconds = kwargs.setdefault("connect_timeout", CONNECT_SECONDS)
        given = conninfo_to_dict(conninfo)
        options = f"{given.get('options') or ''} {kwargs.pop('options', '')} -c {_KEPT}=yes"
        try:
            connection = await super().connect(
                conninfo, autocommit=True, options=options.strip(), **kwargs
            )
        except psycopg.Error as error:
            told = PoolerInBetween() if _OF_A_POOLER in str(error) else error
            cls.on_outage(told)
            raise told from None
        try:
            kept = await connection._keeps_a_session(seconds)
        except BaseException:
            await connection.close()
            raise
        if not kept:
            await connection.close()
            pooler = PoolerInBetween()
            cls.on_outage(pooler)
            raise pooler
        await connection.set_autocommit(autocommit)
        return connection

    async def _keeps_a_session(self, seconds: float) -> bool:
        # A pooler takes connections while the server behind it is away.
        usual, self.answer_seconds = self.answer_seconds, seconds
        cursor = await self.execute(_SQL["kept"], {"name": _KEPT}, prepare=False)
        self.answer_seconds = usual
        return await cursor.fetchall() == [("yes",)]

    async def wait(
        self,
        gen: Generator[Any, Any, Answer],
        interval: float = 0.1,
        timeout: float | None = None,
    ) -> Answer:
        """See `psycopg.AsyncConnection.wait`, through which passes all that a server answers."""
        try:
            async with asyncio.timeout(self.answer_seconds):
                return await super().wait(gen, interval, timeout)
        except TimeoutError:
            await self.close()
            error = psycopg.OperationalError(
                f"the server has not answered for {self.answer_seconds:g} s"
            )
            self.on_outage(error)
            raise error from None
        except psycopg.Error as error:
            if outage := outage_of(error):
                self.stale |= outage.stale
                if not self.expects_refusals:
                    self.on_outage(error)
            raise


class Pool(AsyncConnectionPool[AsyncConnection[TupleRow]]):
    """Connections to one database.

    One that is stale (`outages.Outage`) is replaced when it comes back, and all others with
    it: after a failover they are as stale, and each would fail somebody's work to show it.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        answer_seconds: float | None = None,
        **kwargs: Any,  # noqa: ANN401 as the base has them
    ) -> None:
        pools_own = {"on_outage": self._on_outage, "answer_seconds": answer_seconds}
        connection_class = type("Connection", (Connection,), pools_own)
        super().__init__(conninfo, connection_class=connection_class, **kwargs)
        self._renewed = -math.inf
        self._last_outage = (-math.inf, "")

    def _on_outage(self, error: psycopg.Error) -> None:
        outage = outage_of(error)
        if outage is not None and not outage.passing:
            self._last_outage = (time.monotonic(), describe_outage(error))

    def recent_outage(self, seconds: float) -> str | None:
        """The outage that a connection met within the last ``seconds``, in a line; None: none."""
        when, what = self._last_outage
        return what if time.monotonic() - when <= seconds else None

    async def getconn(self, timeout: float | None = None) -> AsyncConnection[TupleRow]:
        """See `psycopg_pool.AsyncConnectionPool.getconn`; a timeout says what the server said."""
        try:
            return await super().getconn(timeout)
        except PoolTimeout as error:
            raise self._with_reason(error) from None

    async def wait(self, timeout: float = CHECKOUT_SECONDS) -> None:
        """See `psycopg_pool.AsyncConnectionPool.wait`; a timeout says what the server said."""
        try:
            await super().wait(timeout)
        except PoolTimeout as error:
            raise self._with_reason(error) from None

    def _with_reason(self, timeout: PoolTimeout) -> PoolTimeout:
        trouble = self.recent_outage(_TOLD_SECONDS)
        if trouble is None:
            return timeout
        return PoolTimeout(f"{trouble.removeprefix(_UNREACHABLE)} ({timeout})")

    async def putconn(self, conn: AsyncConnection[TupleRow]) -> None:
        """See `psycopg_pool.AsyncConnectionPool.putconn`."""
        if isinstance(conn, Connection) and conn.stale:
            await conn.close()
            now = time.monotonic()
            if now - self._renewed > _RENEWED_SECONDS:
                self._renewed = now
                await self.drain()
        await super().putconn(conn)


async def open_pool(
    url: str,
    *,
    min_size: int,
    max_size: int,
    role: str = "qlp_app",
    application_name: str,
    answer_seconds: float | None = None,
) -> Pool:
    """Open a pool of autocommit connections that act as ``role``.

    Statements are prepared at their first use. A connection that the server has closed is
    recognised at checkout without a round trip and replaced; one that breaks in use raises
    `psycopg.OperationalError` there. A lasting outage ends in `PoolTimeout`, and the pool
    recovers by itself; `outages` says what is one. Without a password, a server on Azure is
    signed in to with the process's identity. Where the server, or what is in between, says nothing
    for ``answer_seconds``, the connection counts as lost; None: as long as the network keeps it.

    Raises:
        psycopg_pool.PoolTimeout: the server cannot be reached within `CHECKOUT_SECONDS`, or a
            pooler that keeps no sessions is in between; the message says so.
    """
    given = conninfo_to_dict(url)
    settings = {**_SESSION, "role": role}
    arguments: dict[str, Any] = {
        "autocommit": True,
        "prepare_threshold": 0,
        "application_name": application_name,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    pool = Pool(
        url,
        min_size=min_size,
        max_size=max_size,
        open=False,
        configure=_configure,
        check=_check,
        timeout=CHECKOUT_SECONDS,
        max_lifetime=3600.0,
        reconnect_timeout=30.0,
        name=application_name,
        answer_seconds=answer_seconds,
        kwargs=with_token(arguments) if needs_token(given, os.environ) else arguments,
    )
    try:
        await pool.open(wait=True, timeout=CHECKOUT_SECONDS)
    except BaseException:
        await pool.close()
        raise
    return pool


async def try_connection(url: str, seconds: int = 5) -> None:
    """Connect once and leave: what is wrong is told at once, where a pool waits.

    Raises:
        psycopg.OperationalError: there is no connection to be had, within ``seconds``.
    """
    await (await Connection.connect(url, connect_timeout=seconds)).close()


class Borrowed:
    """A connection of a pool for single statements and pipelines, each its own transaction.

    `AsyncConnectionPool.connection` would end with a commit, which has nothing to commit here.
    """

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def __aenter__(self) -> AsyncConnection[Any]:
        self._connection = await self._pool.getconn()
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._pool.putconn(self._connection)


async def fetch(
    pool: AsyncConnectionPool, statement: bytes, params: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Run one statement in its own transaction; its rows, none where it returns none."""
    async with Borrowed(pool) as connection:
        return await fetch_over(connection, statement, params)


async def fetch_over(
    connection: AsyncConnection[Any], statement: bytes, params: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Run one statement on ``connection``; its rows, none where it returns none."""
    cursor = await connection.execute(statement, params, binary=True)
    return await cursor.fetchall() if cursor.description else []


async def delete_in_steps(
    pool: AsyncConnectionPool, statement: bytes, params: Mapping[str, Any]
) -> int:
    """Run a ``delete … limit … returning`` until it finds nothing; the number of deleted rows.

    Each step is a transaction of its own, so that locks are short.
    """
    count = 0
    while deleted := len(await fetch(pool, statement, params)):
        count += deleted
    return count


@contextmanager
def refusals_expected(connection: AsyncConnection[Any]) -> Iterator[None]:
    """What the server refuses in it was asked in order to be refused, so it tells of no outage."""
    if not isinstance(connection, Connection):
        yield
        return
    connection.expects_refusals = True
    try:
        yield
    finally:
        connection.expects_refusals = False


@contextmanager
def without_answer_limit(connection: AsyncConnection[Any]) -> Iterator[None]:
    """Its statements may take as long as they need."""
    if not isinstance(connection, Connection):
        yield
        return
    usual, connection.answer_seconds = connection.answer_seconds, None
    try:
        yield
    finally:
        connection.answer_seconds = usual


class _TimeLoader(Loader):
    """Reads times that Python has, and of all others the nearest one.

    PostgreSQL has more: infinity, and years before 1 and after 9999. None is ever recorded here,
    but the database's owner can put one into a row, and must not keep others from being read.
    """

    def __init__(self, oid: int, connection: BaseConnection[Any] | None = None) -> None:
        super().__init__(oid, connection)
        usual = adapters.get_loader(oid, self.format)
        assert usual is not None
        self._load = usual(oid, connection).load

    def load(self, data: Buffer) -> datetime:
        """Called by psycopg."""
        try:
            moment: datetime = self._load(data)
        except DataError:
            return _EARLIEST if self._is_early(bytes(data)) else _LATEST
        return moment

    def _is_early(self, data: bytes) -> bool:
        return data.startswith(b"-") or data.endswith(b"BC")


class _TimeBinaryLoader(_TimeLoader):
    format = Format.BINARY

    def _is_early(self, data: bytes) -> bool:
        return data[0] >= 0x80  # of a number with its sign


async def _configure(connection: AsyncConnection[Any]) -> None:
    set_json_dumps(orjson.dumps, connection)
    set_json_loads(orjson.loads, connection)
    # The binary form of xid8 is that of bigint; ids stay far below 2^63.
    connection.adapters.register_loader(_XID8, IntLoader)
    connection.adapters.register_loader(_XID8, Int8BinaryLoader)
    for loader in (_TimeLoader, _TimeBinaryLoader):
        connection.adapters.register_loader("timestamptz", loader)
    vector = await TypeInfo.fetch(connection, "vector")
    if vector is not None:  # not migrated yet: check_schema says so
        register_vector_info(connection, vector)


async def _check(connection: AsyncConnection[Any]) -> None:
    """Refuse a connection that the server has closed.

    Nothing is sent: on an idle connection the only thing that can arrive unasked is the server's
    farewell, so a readable socket deserves a real look.
    """
    readable = select.poll()
    readable.register(connection.fileno(), select.POLLIN)
    if readable.poll(0):
        await connection.execute("")
