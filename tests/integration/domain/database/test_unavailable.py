"""Each state in which PostgreSQL does nothing for anybody, as a real server says it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from domain.database import pool as domain_database
from domain.database.outages import describe_outage, outage_of
from domain.database.pool import Pool, open_pool
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, NewEvent
from domain.retry import retry_while_unavailable, within
from infra.local.ports import free_port
from tests.support.postgres import Database, Servers, started

Session = AsyncConnection[Any]


@asynccontextmanager
async def sessions(database: Database) -> AsyncIterator[tuple[Session, Session]]:
    """Two of the owner's."""
    async with (
        await AsyncConnection.connect(database.admin_url, autocommit=True) as one,
        await AsyncConnection.connect(database.admin_url, autocommit=True) as other,
    ):
        yield one, other


async def append(log: EventLog, stream_id: str, *inline: InlineWrite) -> None:
    events = [NewEvent(uuid4(), "Happened", 1, {})]
    await log.append(stream_id, "acme", 0, uuid4(), events, {}, inline)


async def until(session: Session, query: str, *params: object) -> None:
    while not await (await session.execute(query.encode(), params)).fetchall():
        await asyncio.sleep(0.005)


async def until_gone(session: Session, pid: int) -> None:
    await until(
        session, "select where not exists (select from pg_stat_activity where pid = %s)", pid
    )


async def read_only(one: Session, other: Session) -> None:
    await one.execute("set default_transaction_read_only = on")
    await one.execute("create table t ()")


async def locked(one: Session, other: Session) -> None:
    await other.execute("select pg_advisory_lock(1)")
    await one.execute("set lock_timeout = '20ms'")
    await one.execute("select pg_advisory_lock(1)")


async def locked_without_waiting(one: Session, other: Session) -> None:
    async with other.transaction(), one.transaction():
        await other.execute("lock table events")
        await one.execute("lock table events nowait")


async def deadlocked(one: Session, other: Session) -> None:
    await one.execute("set deadlock_timeout = '10ms'")
    await other.execute("set deadlock_timeout = '1h'")
    await one.execute("select pg_advisory_lock(1)")
    await other.execute("select pg_advisory_lock(2)")
    waits = asyncio.create_task(other.execute("select pg_advisory_lock(1)"))
    try:
        await one.execute("select pg_advisory_lock(2)")
    finally:
        await one.execute("select pg_advisory_unlock(1)")
        await waits


async def not_serializable(one: Session, other: Session) -> None:
    await other.execute("create table t as select 1 as n")
    async with one.transaction():
        await one.execute("set transaction isolation level repeatable read")
        await one.execute("select from t")
        await other.execute("update t set n = 2")
        await one.execute("update t set n = 3")


async def too_slow(one: Session, other: Session) -> None:
    await one.execute("set statement_timeout = '20ms'")
    await one.execute("select pg_sleep(60)")


async def cancelled_by_an_operator(one: Session, other: Session) -> None:
    sleeps = asyncio.create_task(one.execute("select pg_sleep(60)"))
    pid = one.info.backend_pid
    await until(
        other,
        "select pg_cancel_backend(pid) from pg_stat_activity "
        "where pid = %s and wait_event = 'PgSleep'",
        pid,
    )
    await sleeps


async def idle_in_transaction(one: Session, other: Session) -> None:
    await one.execute("set idle_in_transaction_session_timeout = '20ms'")
    async with one.transaction():
        await one.execute("select 1")
        await until_gone(other, one.info.backend_pid)
        await one.execute("select 1")


async def terminated(one: Session, other: Session) -> None:
    await other.execute("select pg_terminate_backend(%s)", [one.info.backend_pid])
    await until_gone(other, one.info.backend_pid)
    await one.execute("select 1")


async def without_tables(one: Session, other: Session) -> None:
    await one.execute("drop table events cascade")
    await one.execute("select from events")


async def without_functions(one: Session, other: Session) -> None:
    await one.execute("select append_events_of_tomorrow()")


async def without_rights(one: Session, other: Session) -> None:
    await one.execute("revoke all on events from qlp_app")
    await one.execute("set role qlp_app")
    await one.execute("select from events")


async def without_prepared_statements(one: Session, other: Session) -> None:
    await one.execute("select 1", prepare=True)
    await one.execute(b"do $$ begin execute 'deallocate all'; end $$")
    await one.execute("select 1", prepare=True)


async def with_another_schema(one: Session, other: Session) -> None:
    await other.execute("create table t ()")
    await one.execute("select * from t", prepare=True)
    await other.execute("alter table t add column n int")
    await one.execute("select * from t", prepare=True)


def raising(code: str) -> Callable[[Session, Session], Awaitable[None]]:
    """For what only a server can say whose disk is full: its words, by their SQLSTATE."""

    async def raise_it(one: Session, other: Session) -> None:
        statement = "do $$ begin raise exception 'as if' using errcode = {}; end $$"
        await one.execute(sql.SQL(statement).format(code))

    return raise_it


STATES: list[tuple[Callable[[Session, Session], Awaitable[None]], str]] = [
    (read_only, "is read-only"),
    (locked, "was waiting for a lock for too long"),
    (locked_without_waiting, "was waiting for a lock for too long"),
    (deadlocked, "gave way to other transactions"),
    (not_serializable, "gave way to other transactions"),
    (too_slow, "took too long, or was told to stop"),
    (cancelled_by_an_operator, "took too long, or was told to stop"),
    (idle_in_transaction, "ended a transaction that waited too long"),
    (terminated, "is shutting down or starting"),
    (without_tables, "is not set up, or is being restored"),
    (without_functions, "is not set up, or is being restored"),
    (without_rights, "is not set up, or is being restored"),
    (without_prepared_statements, "does not keep a session's prepared statements"),
    (with_another_schema, "has a changed schema"),
    (raising("53100"), "has no disk space left"),
    (raising("53200"), "is out of memory"),
    (raising("53300"), "has no connection left"),
    (raising("53400"), "is short of resources"),
    (raising("57P02"), "is shutting down or starting"),
    (raising("57P03"), "is shutting down or starting"),
    (raising("58030"), "has trouble with its storage"),
    (raising("XX001"), "has trouble with its storage"),
    (raising("08006"), "cannot be reached"),
    (raising("3F000"), "is not set up, or is being restored"),
]


@pytest.mark.parametrize(
    ("bring_about", "problem"), STATES, ids=[f"{s.__name__} {p}" for s, p in STATES]
)
async def test_a_state_of_the_server_is_an_outage(
    database: Database, bring_about: Callable[..., Awaitable[None]], problem: str
) -> None:
    async with sessions(database) as (one, other):
        with pytest.raises(psycopg.Error) as raised:
            await bring_about(one, other)
        outage = outage_of(raised.value)
        assert outage is not None, raised.value
        assert outage.problem.startswith(problem)
        assert describe_outage(raised.value).count("\n") == 0


async def a_statement_too_large(one: Session, other: Session) -> None:
    await one.execute("select " + "(" * 50_000 + "1" + ")" * 50_000)


async def a_duplicate(one: Session, other: Session) -> None:
    await one.execute("create table t as select 1 as n; create unique index on t (n)")
    await one.execute("insert into t values (1)")


@pytest.mark.parametrize("bring_about", [a_statement_too_large, a_duplicate, raising("54000")])
async def test_an_error_of_the_request_is_no_outage(
    database: Database, bring_about: Callable[..., Awaitable[None]]
) -> None:
    async with sessions(database) as (one, other):
        with pytest.raises(psycopg.Error) as raised:
            await bring_about(one, other)
        assert outage_of(raised.value) is None


UNREACHABLE = [
    pytest.param({"host": "no-such-host.invalid"}, "no-such-host.invalid", id="unknown host"),
    pytest.param({"port": "closed"}, "refused", id="closed port"),
    pytest.param({"sslmode": "require"}, "SSL", id="no TLS"),
    pytest.param({"dbname": "nowhere"}, "nowhere", id="no database"),
    pytest.param({"user": "nobody_here"}, "nobody_here", id="no login"),
    pytest.param({"user": "too_many"}, "too many connections", id="no connection left"),
]


@pytest.mark.parametrize(("wrong", "told"), UNREACHABLE)
async def test_who_cannot_connect_is_told_why(
    database: Database, wrong: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_database, "CHECKOUT_SECONDS", 1.0)
    if wrong.get("port"):
        wrong = {"port": str(free_port())}
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        if wrong.get("user") == "too_many":
            owner.execute("drop role if exists too_many")
            owner.execute("create role too_many login connection limit 0 password 'x'")
            wrong = {**wrong, "password": "x"}
        url = make_conninfo("", **{**conninfo_to_dict(database.url), **wrong})
        try:
            with pytest.raises(PoolTimeout) as raised:
                await open_pool(url, min_size=1, max_size=1, application_name="tests")
        finally:
            owner.execute("drop role if exists too_many")
    assert outage_of(raised.value)
    assert told in describe_outage(raised.value)


async def test_a_pool_that_is_used_up_says_so_as_an_outage(
    database: Database,
) -> None:
    pool = await open_pool(database.url, min_size=1, max_size=1, application_name="tests")
    pool.timeout = 0.1
    try:
        async with pool.connection():
            with pytest.raises(PoolTimeout) as raised:
                await EventLog(pool).writable()
        assert outage_of(raised.value)
        assert pool.recent_outage(60) is None, "the server has said nothing"
    finally:
        await pool.close()


@pytest.fixture
async def app_pool(database: Database) -> AsyncIterator[Pool]:
    opened = await open_pool(database.url, min_size=4, max_size=4, application_name="tests")
    yield opened
    await opened.close()


def for_new_sessions(database: Database, state: str) -> None:
    """What sessions begin with: those that are there keep what they began with."""
    unaffected = "-c default_transaction_read_only=off"
    with psycopg.connect(database.admin_url, autocommit=True, options=unaffected) as owner:
        owner.execute(
            sql.SQL("alter database {} set default_transaction_read_only = {}").format(
                sql.Identifier(database.name), sql.SQL(state)
            )
        )


async def backends(pool: AsyncConnectionPool) -> set[int]:
    """The sessions of a pool, all of them taken at once."""
    taken = [await pool.getconn() for _ in range(pool.max_size)]
    pids = {connection.info.backend_pid for connection in taken}
    for connection in taken:
        await pool.putconn(connection)
    return pids


@pytest.mark.parametrize("inline", [[], [InlineWrite(b"select 1", {})]], ids=["alone", "inline"])
async def test_sessions_that_stay_read_only_are_replaced_all_at_once(
    database: Database, app_pool: Pool, inline: list[InlineWrite]
) -> None:
    """As after a failover: the server takes writes again, the sessions of before do not."""
    log = EventLog(app_pool)
    for_new_sessions(database, "on")
    await app_pool.drain()
    before = await backends(app_pool)
    assert not await log.writable()
    for_new_sessions(database, "off")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await append(log, "s-1", *inline)
    for number in range(8):
        await append(log, f"s-{number}", *inline)
    assert not before & await backends(app_pool)
    assert "is read-only" in (app_pool.recent_outage(60) or "")
    assert app_pool.recent_outage(0) is None


async def test_what_is_asked_of_a_connection_that_we_closed_is_no_outage(app_pool: Pool) -> None:
    async def close_in_a_pipeline() -> None:
        async with app_pool.connection() as connection, connection.pipeline():
            await connection.execute("select 1")
            await connection.close()  # as an append does whose answers nobody will read

    with pytest.raises(psycopg.OperationalError):
        await close_in_a_pipeline()
    assert app_pool.recent_outage(60) is None


async def test_a_new_schema_ends_the_sessions_that_know_the_old_one(
    database: Database, app_pool: Pool
) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        owner.execute("create table t as select 1 as n; grant select on t to qlp_app")
        query = b"select * from t"
        taken = [await app_pool.getconn() for _ in range(4)]
        for connection in taken:
            await connection.execute(query)
        for connection in taken:
            await app_pool.putconn(connection)
        owner.execute("alter table t add column m int")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        await domain_database.fetch(app_pool, query, {})
    for _ in range(8):
        assert await domain_database.fetch(app_pool, query, {}) == [(1, None)]


async def test_an_append_undone_by_a_deadlock_is_repeated(
    database: Database, app_pool: Pool
) -> None:
    """Once undone by a deadlock, or twice: nobody outside sees it, and it is recorded once."""
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        owner.execute("create sequence tries")
        owner.execute("grant usage on sequence tries to qlp_app")
    victim = InlineWrite(
        b"do $$ begin if nextval('tries') < 3 then "
        b"raise exception 'as if' using errcode = '40P01'; end if; end $$",
        {},
    )
    log = EventLog(app_pool)
    await append(log, "s-1", victim)
    assert [event.version for event in await log.read_stream("s-1")] == [1]
    always = InlineWrite(b"do $$ begin raise exception 'as if' using errcode = '40001'; end $$", {})
    with pytest.raises(psycopg.errors.SerializationFailure):
        await append(log, "s-2", always)
    assert await log.read_stream("s-2") == []


@asynccontextmanager
async def proxy_to(database: Database) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The database's URL through a proxy, and whether that hands on what it gets; it takes all."""
    target = conninfo_to_dict(database.url)
    passes = asyncio.Event()
    passes.set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if passes.is_set():
                    writer.write(data)
                    await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(str(target["host"]), int(str(target["port"])))
        await asyncio.gather(pump(reader, server[1]), pump(server[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        yield make_conninfo("", **{**target, "port": port}), passes


async def test_a_server_that_falls_silent_is_not_waited_for(database: Database) -> None:
    """The network says that all is well: so it is with a pooler, or a balancer, in between."""
    async with proxy_to(database) as (url, passes), asyncio.timeout(60):
        pool = await open_pool(
            url, min_size=2, max_size=2, application_name="tests", answer_seconds=0.3
        )
        log = EventLog(pool)
        passes.clear()
        with pytest.raises(psycopg.OperationalError) as raised:
            await append(log, "s-1")
        assert outage_of(raised.value)
        assert "has not answered for 0.3 s" in describe_outage(raised.value)
        assert "has not answered" in (pool.recent_outage(60) or "")
        passes.set()
        await retry_while_unavailable(lambda: append(log, "s-1"))
        assert [event.version for event in await log.read_stream("s-1")] == [1]
        await pool.close()


async def test_a_caller_that_timed_out_does_not_wait_for_a_silent_server(
    database: Database,
) -> None:
    async with proxy_to(database) as (url, passes), asyncio.timeout(60):
        pool = await open_pool(url, min_size=1, max_size=1, application_name="tests")
        passes.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            await within(0.1, EventLog(pool).writable())
        assert loop.time() - began < 4.5, "psycopg tells the server to stop, for five seconds"
        await pool.close()


async def test_a_standby_is_waited_for_until_it_is_promoted(servers: Servers) -> None:
    server = await started(servers)
    with psycopg.connect(server.admin_url) as owner:
        [(folder,)] = owner.execute("show data_directory").fetchall()
    await asyncio.to_thread(server.stop)
    Path(folder, "standby.signal").touch()
    await asyncio.to_thread(server.start)
    pool = await open_pool(server.app_url("qlp"), min_size=2, max_size=4, application_name="tests")
    log = EventLog(pool)
    assert not await log.writable()
    assert await log.read_stream("s-1") == [], "reading goes on"
    with pytest.raises(psycopg.Error) as raised:
        await append(log, "s-1")
    assert "is read-only" in describe_outage(raised.value)
    waits = asyncio.create_task(retry_while_unavailable(lambda: append(log, "s-1")))
    with psycopg.connect(server.admin_url, autocommit=True) as owner:
        owner.execute("select pg_promote()")
    await waits
    assert await log.writable()
    assert len(await log.read_stream("s-1")) == 1
    await pool.close()
