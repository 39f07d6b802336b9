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

#: How long connecting may take, in seconds; overrides the connect_timeout of a URL.
CONNECT_SECONDS = 10

#: A server that is silent for so long is lost, even if the connection looks open: it would have
#: ended any statement after 30 seconds itself. Seconds.
ANSWER_SECONDS = 40.0

_SESSION = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    # A client that stands still while it is sent more than the network holds: no other limit ends
    # that session, or what it holds locked. No effect over Unix sockets.
    "tcp_user_timeout": "10s",
    "timezone": "UTC",
    # Appends need it: whoever has waited for a lane must see what was committed meanwhile.
    "default_transaction_isolation": "read committed",
    # Similarity search: docs/benchmarks.md has the figures.
    "hnsw.ef_search": "120",
    "hnsw.iterative_scan": "relaxed_order",
    "ivfflat.probes": "20",
    "ivfflat.iterative_scan": "relaxed_order",
}

_XID8 = 5069  # pg_type.dat

#: The first and the last time that Python can represent.
_EARLIEST, _LATEST = (moment.replace(tzinfo=UTC) for moment in (datetime.min, datetime.max))

_SQL = load_statements(Path(__file__).with_name("pool.sql"))

#: A setting that each session makes, and the error of poolers that know only certain settings.
_KEPT, _OF_A_POOLER = "qlp.session", "unsupported startup parameter"

#: After a stale connection all are replaced, at most once in so many seconds.
_RENEWED_SECONDS = 1.0

_UNREACHABLE = f"the database {UNREACHABLE.problem}: "

#: A timeout of the pool names the last outage if that is not older than this, seconds.
_TOLD_SECONDS = 60.0

Answer = TypeVar("Answer")


class PoolerInBetween(psycopg.OperationalError):
    """A pooler answered that does not keep session settings, as PgBouncer in transaction mode."""

    def __init__(self) -> None:
        super().__init__(
            "a pooler answers that does not keep session settings (PgBouncer?): "
            "connect to PostgreSQL itself, on Azure to port 5432 instead of 6432"
        )


class Connection(AsyncConnection[TupleRow]):
    """A connection that reports outages of the server; see `domain.database.outages`.

    It must lead to PostgreSQL itself, not to a pooler: leases are session locks, prepared
    statements belong to a session, and so do roles and timeouts.

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
        """Called with each outage that a connection of this class meets."""

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """See `psycopg.AsyncConnection.connect`; the timeout is `CONNECT_SECONDS` by default.

        Raises:
            PoolerInBetween: a pooler answered that does not keep session settings.
            psycopg.OperationalError: connecting failed, or the first answer did not come in time.
        """
        seconds = kwargs.setdefault("connect_timeout", CONNECT_SECONDS)
        given = conninfo_to_dict(conninfo)
        options = f"{given.get('options') or ''} {kwargs.pop('options', '')} -c {_KEPT}=yes"
        try:
            connection = await super().connect(
                conninfo, autocommit=True, options=options.strip(), **kwargs
            )
        except psycopg.Error as error:
            reported = PoolerInBetween() if _OF_A_POOLER in str(error) else error
            cls.on_outage(reported)
            raise reported from None
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
        # With a timeout: a pooler accepts connections while the server behind it is down.
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
        """See `psycopg.AsyncConnection.wait`: every answer of the server is awaited here."""
        was_closed = self.closed  # by us, or its end was reported: it says nothing new
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
                if not self.expects_refusals and not was_closed:
                    self.on_outage(error)
            raise


class Pool(AsyncConnectionPool[AsyncConnection[TupleRow]]):
    """Connections to one database.

    When a stale connection (`outages.Outage`) is returned, it is replaced together with all others:
    after a failover they are stale as well, and each would make a request fail first.
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
        """The last outage that a connection met, if within ``seconds``, in one line; else None."""
        when, what = self._last_outage
        return what if time.monotonic() - when <= seconds else None

    async def getconn(self, timeout: float | None = None) -> AsyncConnection[TupleRow]:
        """See `psycopg_pool.AsyncConnectionPool.getconn`; a timeout also names the last outage."""
        try:
            return await super().getconn(timeout)
        except PoolTimeout as error:
            raise self._with_reason(error) from None

    async def wait(self, timeout: float = CHECKOUT_SECONDS) -> None:
        """See `psycopg_pool.AsyncConnectionPool.wait`; a timeout also names the last outage."""
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
    recognised at checkout, without a round trip, and replaced; one that breaks in use raises
    `psycopg.OperationalError`. During an outage (see `outages`), checkouts end in `PoolTimeout`;
    afterwards the pool recovers by itself. Without a password, it signs in to a server on Azure
    with the process's identity. A connection over which no answer comes for ``answer_seconds``
    counts as lost; with None, only when the network says so.

    Raises:
        psycopg_pool.PoolTimeout: the server cannot be reached within `CHECKOUT_SECONDS`, or a
            pooler answers that does not keep session settings; the message says so.
    """
    given = conninfo_to_dict(url)
    settings = {**_SESSION, "role": role}
    arguments: dict[str, Any] = {
        "autocommit": True,
        "prepare_threshold": 0,
        "application_name": application_name,
        "options": " ".join(
            f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items()
        ),
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
    """Connect once and disconnect; errors are raised at once, where a pool would wait.

    Raises:
        psycopg.OperationalError: connecting failed, or took longer than ``seconds``.
    """
    await (await Connection.connect(url, connect_timeout=seconds)).close()


class Borrowed:
    """A connection of a pool for single statements and pipelines, each its own transaction.

    Unlike `AsyncConnectionPool.connection`, it ends without a commit: there is nothing to commit.
    If it is cancelled, the connection is closed: the answers of a pipeline may be left on it, which
    the next one would take for its own.
    """

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def __aenter__(self) -> AsyncConnection[Any]:
        self._connection = await self._pool.getconn()
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            await self._connection.close()
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
    """Repeat a ``delete … limit … returning`` until it finds nothing; the number of deleted rows.

    Each step is a transaction of its own, so that locks are held briefly.
    """
    count = 0
    while deleted := len(await fetch(pool, statement, params)):
        count += deleted
    return count


@contextmanager
def refusals_expected(connection: AsyncConnection[Any]) -> Iterator[None]:
    """Within it, errors of the server are expected and not reported as outages."""
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
    """Within it, statements may take as long as they need."""
    if not isinstance(connection, Connection):
        yield
        return
    usual, connection.answer_seconds = connection.answer_seconds, None
    try:
        yield
    finally:
        connection.answer_seconds = usual


class _TimeLoader(Loader):
    """Reads times, and replaces those that Python cannot represent by the nearest one.

    PostgreSQL also has infinity, and years before 1 and after 9999. The application never writes
    one, but the database's owner can, and other rows must stay readable.
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
        return data[0] >= 0x80  # the sign bit


async def _configure(connection: AsyncConnection[Any]) -> None:
    set_json_dumps(orjson.dumps, connection)
    set_json_loads(orjson.loads, connection)
    # The binary form of xid8 is that of bigint; ids stay far below 2^63.
    connection.adapters.register_loader(_XID8, IntLoader)
    connection.adapters.register_loader(_XID8, Int8BinaryLoader)
    for loader in (_TimeLoader, _TimeBinaryLoader):
        connection.adapters.register_loader("timestamptz", loader)
    vector = await TypeInfo.fetch(connection, "vector")
    if vector is not None:  # None before the migrations; check_schema reports that
        register_vector_info(connection, vector)


async def _check(connection: AsyncConnection[Any]) -> None:
    """Refuse a connection that the server has closed.

    Nothing is sent: an idle connection becomes readable only when the server closes it, so only
    then a query is worth its round trip.
    """
    readable = select.poll()
    readable.register(connection.fileno(), select.POLLIN)
    if readable.poll(0):
        await connection.execute("")
