"""What operators and readers can rely on while a projection is rebuilt."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import open_pool
from domain.database.statements import load_statements
from domain.eventlog.intent_streams import stream_of
from domain.operations.projections import rebuild, verify
from domain.projections import stream_folds
from domain.projections.following.parked import parked_streams
from domain.projections.rebuild.contract import Progress, RebuildFailed
from domain.projections.registry import NAMES, Projections
from tests.support.intents.histories import Histories, table
from tests.support.postgres import Database


def ignore(_progress: Progress) -> None:
    pass


ROWS = {
    "intent_states": b"select * from intent_states order by id",
    "usage_daily": b"select * from usage_daily order by tenant_id, day",
    "error_patterns": b"select * from error_patterns order by tenant_id, code, cause",
}


@pytest.mark.parametrize("name", NAMES)
async def test_a_rebuild_gives_what_was_there(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, name: str
) -> None:
    await Histories.over(pool).mixture(20)
    await Projections(pool).run_until_caught_up()
    before = await table(pool, ROWS[name])
    rebuilt = await rebuild(owner, name, on_progress=ignore, page=37).run()
    assert await table(pool, ROWS[name]) == before
    assert (await verify(pool, name)).differing == 0
    [[events]] = await table(pool, b"select count(*) from events")
    assert rebuilt.events == events


#: Everything about the tables and views of the schema public that a reader or writer could notice.
CATALOG = b"""
    select c.relkind, c.relname, c.reloptions, pg_get_userbyid(c.relowner), c.relacl::text,
        pg_get_indexdef(x.indexrelid), x.indisprimary, x.indisvalid
    from pg_class c left join pg_index x on x.indexrelid = c.oid
    where c.relnamespace = 'public'::regnamespace
    union all
    select 'c', conname, null, conrelid::regclass::text, pg_get_constraintdef(oid), null, null, null
    from pg_constraint where connamespace = 'public'::regnamespace
    union all
    select 'a', a.attname, null, c.relname, format_type(a.atttypid, a.atttypmod),
        pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.attnum > 0
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and a.attnum > 0
    union all
    select 'd', viewname, null, viewowner, definition, null, null, null
    from pg_views where schemaname = 'public'
    union all
    select 's', nspname, null, null, null, null, null, null from pg_namespace
    where nspname like 'qlp%'
    order by 1, 2, 4, 5, 6
"""


@pytest.mark.parametrize("name", NAMES)
async def test_tables_indexes_grants_and_views_are_as_before(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, name: str
) -> None:
    await Histories.over(pool).mixture(2)
    before = await table(owner, CATALOG)
    assert len(before) > 100
    await rebuild(owner, name, on_progress=ignore).run()
    assert await table(owner, CATALOG) == before
    rows = await table(pool, b"select count(*) from intents")
    assert rows == [(10,)], "the view shows the new table"


async def test_the_view_shows_what_is_written_after_the_exchange(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    histories = Histories.over(pool)
    await histories.succeeded()
    await table(pool, b"select count(*) from intents")  # prepared before, used after
    await rebuild(owner, "intent_states", on_progress=ignore).run()
    new = await histories.succeeded()
    statement = b"select id, status from intents where status = 'succeeded'"
    assert new in [row[0] for row in await table(pool, statement)]
    assert len(await table(pool, statement)) == 2


TAMPER = {
    "intent_states": """
        delete from intent_states
            where id = (select id from intent_states where status = 'succeeded' limit 1);
        update intent_states set status = 'odd' where status = 'cancelled';
        insert into intent_states (id, tenant_id, version, status, user_input, created_at,
            updated_at) values (gen_random_uuid(), 'x', 1, 'submitted', '', now(), now());
    """,
    "usage_daily": """
        update usage_daily set runs = runs + 1 where tenant_id = 'tenant-0';
        delete from usage_daily where tenant_id = 'tenant-1';
        insert into usage_daily select 'ghost', day, 1, 1, 1, 1, 1, 1, 1, 1, 1, latency
            from usage_daily limit 1;
    """,
    "error_patterns": """
        update error_patterns set failures = 99 where code = 'no_plan' and tenant_id = 'tenant-0';
        delete from error_patterns where tenant_id = 'tenant-1' and code = 'no_plan';
    """,
}


@pytest.mark.parametrize("name", NAMES)
async def test_verification_finds_what_differs_and_a_rebuild_repairs_it(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database, name: str
) -> None:
    await Histories.over(pool).mixture(6)
    await Projections(pool).run_until_caught_up()
    good = await table(pool, ROWS[name])
    clean = await verify(pool, name)
    assert (clean.compared, clean.differing) == (len(good), 0)
    with psycopg.connect(database.admin_url) as someone:
        someone.execute(TAMPER[name].encode())
    found = await verify(pool, name)
    differing = {"intent_states": 8, "usage_daily": 3, "error_patterns": 2}[name]
    assert (found.differing, len(found.differences)) == (differing, differing)
    sides = {(one.folded is None, one.live is None) for one in found.differences}
    assert {(False, True), (False, False)} <= sides
    await rebuild(owner, name, on_progress=ignore).run()
    assert await table(pool, ROWS[name]) == good
    assert (await verify(pool, name)).differing == 0


async def test_a_sample_finds_a_wrong_row_only_if_it_looks_there(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await Histories.over(pool).mixture(4)
    async with owner.connection() as connection:
        await connection.execute("update intent_states set status = 'odd'")
    found = await verify(pool, "intent_states", sample=5)
    assert (found.compared, found.differing) == (5, 5)
    with pytest.raises(ValueError, match="sample"):
        await verify(pool, "usage_daily", sample=5)


async def test_verification_under_writers_finds_nothing_wrong(pool: AsyncConnectionPool) -> None:
    histories = Histories.over(pool)
    await histories.mixture(10)
    async with Writing(histories) as writing:
        await Projections(pool).run_until_caught_up()
        for name in NAMES:
            assert (await verify(pool, name)).differences == []
        assert writing.made > 0


class Writing:
    """Four clients that make one intent after the other, for as long as the block takes.

    The server of these tests flushes nothing, and the writers are in the process that has to catch
    up: without pauses they would leave it too little time on a slow machine.

    Args:
        histories: makes the intents.
        pause: after each intent, in times of what that took.
    """

    def __init__(self, histories: Histories, pause: float = 3) -> None:
        self._histories = histories
        self._pause = pause
        self._done = asyncio.Event()
        self.made = 0

    async def __aenter__(self) -> Writing:
        self._tasks = [asyncio.create_task(self._write()) for _ in range(4)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done.set()
        await asyncio.gather(*self._tasks)

    async def _write(self) -> None:
        while not self._done.is_set():
            began = time.monotonic()
            await self._histories.succeeded()
            self.made += 1
            await asyncio.sleep(self._pause * (time.monotonic() - began))


ROWS_BEHIND = b"""
    select e.stream_id, max(e.version), max(s.version)
    from events e left join intent_states s on 'intent-' || s.id = e.stream_id
    group by e.stream_id having max(e.version) is distinct from max(s.version)
"""


async def test_no_row_is_lost_or_behind_while_writers_go_on(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    histories = Histories.over(pool)
    await histories.mixture(20)
    async with Writing(histories, pause=0.5) as writing:
        for page in (50, 2000):
            made = writing.made
            await rebuild(owner, "intent_states", on_progress=ignore, page=page).run()
            assert writing.made > made, "nothing was written during the rebuild"
            assert await table(pool, ROWS_BEHIND) == []
    assert await table(pool, ROWS_BEHIND) == []
    assert (await verify(pool, "intent_states")).differing == 0


async def test_the_log_is_read_by_lanes(owner: AsyncConnectionPool) -> None:
    """Not as a whole for each few lanes, by the index of streams, whose first rows come sooner."""
    statements = load_statements(Path(stream_folds.__file__).with_name("stream_folds.sql"))
    async with owner.connection() as connection, connection.transaction():
        await connection.execute(
            "insert into events (event_id, stream_id, version, type, schema_version, tenant_id,"
            " command_id, metadata, data) select gen_random_uuid(), 'stream-' || n, version,"
            " 'Made', 1, 'acme', gen_random_uuid(), '{}', '{}'"
            " from generate_series(1, 1000) n, generate_series(1, 5) version"
        )
        await connection.execute("analyze events")
        await connection.execute(statements["limits"])
        explain = b"explain declare lanes cursor for " + statements["lanes"]
        plan = await connection.execute(explain, {"first": 0, "end": 25})
        assert "events_pkey" in "".join(line for (line,) in await plan.fetchall())


async def test_what_is_written_beside_an_older_transaction_is_in_the_new_table(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database
) -> None:
    histories = Histories.over(pool)
    await histories.mixture(2)
    async with await psycopg.AsyncConnection.connect(database.admin_url) as other:
        await other.execute("select pg_current_xact_id()")
        await histories.succeeded()
        await rebuild(owner, "intent_states", on_progress=ignore).run()
        assert await table(pool, ROWS_BEHIND) == []


async def test_readers_never_see_less_than_everything(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await Histories.over(pool).mixture(20)
    await Projections(pool).run_until_caught_up()
    queries = (
        b"select count(*), min(version), count(*) filter (where intents.status = 'succeeded')"
        b" from intents join intent_states using (id)",
        b"select sum(submitted), sum(succeeded), sum(failed), sum(latency[1]) from usage_daily",
        b"select sum(failures), count(*) from error_patterns",
    )
    expected = [await table(pool, query) for query in queries]
    done = asyncio.Event()
    reads = 0

    async def hammer() -> None:
        nonlocal reads
        while not done.is_set():
            assert [await table(pool, query) for query in queries] == expected
            reads += 1

    readers = [asyncio.create_task(hammer()) for _ in range(4)]
    for name in NAMES:
        before = reads
        await rebuild(owner, name, on_progress=ignore, page=20).run()
        assert reads > before, "nobody read during the rebuild"
    done.set()
    await asyncio.gather(*readers)


async def test_a_long_reader_delays_the_exchange_and_not_everybody_else(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database
) -> None:
    histories = Histories.over(pool)
    await histories.mixture(2)
    reader = await psycopg.AsyncConnection.connect(database.url)
    await reader.execute("select count(*) from intents")  # its transaction stays open
    made_by_try: list[int] = []

    async with Writing(histories) as writing:

        def count(progress: Progress) -> None:
            if progress.stage == "swap":
                made_by_try.append(writing.made)

        rebuilding = asyncio.create_task(rebuild(owner, "intent_states", on_progress=count).run())
        # Writers get through between two tries, while the reader still reads.
        while len(made_by_try) < 2 or made_by_try[-1] < made_by_try[0] + 4:
            assert not rebuilding.done()
            await asyncio.sleep(0.01)
            await reader.execute("select")  # else the server ends it after a minute
        await reader.close()
        rebuilt = await rebuilding
    assert rebuilt.swap_tries > 1
    assert await table(pool, ROWS_BEHIND) == []


async def test_a_projection_goes_on_after_its_rebuild_without_a_gap_or_a_repetition(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    histories = Histories.over(pool)
    projections = Projections(pool)
    done = asyncio.Event()

    async def keep_running() -> None:
        while not done.is_set():
            await projections.run_until_caught_up()

    running = asyncio.create_task(keep_running())
    async with Writing(histories):
        for name in ("usage_daily", "error_patterns"):
            await rebuild(owner, name, on_progress=ignore, page=30).run()
    done.set()
    await running
    await projections.run_until_caught_up()
    for name in NAMES:
        assert (await verify(pool, name)).differences == []
    [row] = await table(pool, b"select submitted, succeeded, runs from usage_daily")
    [[streams]] = await table(pool, b"select count(*) from events where version = 1")
    assert row == (streams, streams, streams)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
async def test_an_interrupted_rebuild_goes_on_where_it_was(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database, name: str
) -> None:
    await Histories.over(pool).mixture(20)
    await Projections(pool).run_until_caught_up()
    before = await table(pool, ROWS[name])
    [[events]] = await table(pool, b"select count(*) from events")
    seen: list[int] = []

    def break_connection(progress: Progress) -> None:
        seen.append(progress.resumed_from)
        if progress.stage in ("bulk", "follow") and progress.events > 100 * len(set(seen)):
            with psycopg.connect(database.admin_url, autocommit=True) as other:
                other.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where application_name = 'tests-owner' and datname = %s",
                    [database.name],
                )

    crashes = 0
    while True:
        try:
            rebuilt = await rebuild(owner, name, on_progress=break_connection, page=40).run()
            break
        except psycopg.OperationalError:
            crashes += 1
            assert await table(pool, ROWS[name]) == before
    assert crashes >= 2
    assert rebuilt.resumed_from >= 200, "each run went on where the one before it was"
    assert rebuilt.events == events
    assert await table(pool, ROWS[name]) == before
    assert (await verify(pool, name)).differing == 0


async def test_a_rebuild_begun_on_another_schema_begins_anew(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await Histories.over(pool).mixture(4)

    def interrupt(progress: Progress) -> None:
        if progress.events > 20:
            raise Interrupted

    with pytest.raises(Interrupted):
        await rebuild(owner, "intent_states", on_progress=interrupt, page=10).run()
    assert (await rebuild(owner, "intent_states", on_progress=ignore).plan()).done > 0
    async with owner.connection() as connection:
        await connection.execute("insert into schema_migrations values (9999, 'next', 'x')")
        await connection.execute("alter table intent_states add column extra text default 'new'")
    rebuilt = await rebuild(owner, "intent_states", on_progress=ignore).run()
    assert rebuilt.resumed_from == 0
    assert await table(pool, b"select distinct extra from intent_states") == [("new",)]


async def test_a_stream_that_cannot_be_folded_keeps_its_row_and_is_listed(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    histories = Histories.over(pool)
    good, bad = await histories.succeeded(), await histories.succeeded()
    before = await table(pool, ROWS["intent_states"])
    async with owner.connection() as connection:
        await connection.execute("alter table events disable trigger events_immutable")
        await connection.execute(
            "update events set data = '{}' where stream_id = %s and version = 4", [stream_of(bad)]
        )
    await rebuild(owner, "intent_states", on_progress=ignore).run()
    assert await table(pool, ROWS["intent_states"]) == before
    [parked] = await parked_streams(pool, "intent_states")
    assert (parked.stream_id, parked.from_version) == (stream_of(bad), 4)
    verified = await verify(pool, "intent_states")
    assert (verified.compared, verified.unfoldable) == (1, 1)
    assert good != bad


async def test_nothing_but_the_tables_of_the_projection_is_written(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await Histories.over(pool).mixture(3)
    await Projections(pool).run_until_caught_up()
    async with owner.connection() as connection:
        await connection.execute(
            b"""insert into intent_embeddings (intent_id, tenant_id, model, embedding)
            select id, tenant_id, 'lexical-v1', array_fill(0.1, array[1536])::vector
            from intent_states"""
        )
    untouched = (
        "events", "intent_embeddings", "embeddings", "intent_recovery", "rejected_messages"
    )  # fmt: skip

    async def fingerprints() -> list[Any]:
        async with owner.connection() as connection:
            query = sql.SQL(
                "select count(*), sum(xmin::text::bigint), sum(hashtext(t::text)) from {} t"
            )
            return [
                await (await connection.execute(query.format(sql.Identifier(name)))).fetchall()
                for name in untouched
            ]

    before = await fingerprints()
    for name in NAMES:
        await rebuild(owner, name, on_progress=ignore).run()
    assert await fingerprints() == before


async def test_a_rebuild_keeps_to_its_rate(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await Histories.over(pool).mixture(8)
    [[events]] = await table(pool, b"select count(*)::float8 from events")
    for name in ("intent_states", "usage_daily"):
        started = time.monotonic()
        await rebuild(owner, name, on_progress=ignore, rate=events).run()
        assert 0.7 < time.monotonic() - started < 30


async def test_a_login_that_does_not_own_the_tables_is_refused_with_the_fix(
    pool: AsyncConnectionPool,
) -> None:
    with pytest.raises(RebuildFailed, match=r"does not own intent_states.*DATABASE_ADMIN_URL"):
        await rebuild(pool, "intent_states", on_progress=ignore).run()


#: Gives everything to a role that is no superuser, as the owner on a managed server is none.
ORDINARY_OWNER = b"""
    do $$
    declare
        t record;
    begin
        begin
            create role qlp_test_owner nologin;
        exception when duplicate_object or unique_violation then null;
        end;
        for t in select c.oid::regclass as name from pg_class c
            where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')
        loop
            execute format('alter table %s owner to qlp_test_owner', t.name);
        end loop;
    end $$;
    grant execute on all functions in schema public to qlp_test_owner;
    grant usage, create on schema public to qlp_test_owner;
"""


async def test_an_owner_that_is_no_superuser_needs_the_right_to_make_schemas(
    pool: AsyncConnectionPool, database: Database
) -> None:
    await Histories.over(pool).mixture(2)
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(ORDINARY_OWNER)
    before = await table(pool, ROWS["intent_states"])
    owner = await open_pool(
        database.admin_url,
        min_size=1,
        max_size=3,
        role="qlp_test_owner",
        application_name="tests-ordinary-owner",
    )
    try:
        with pytest.raises(RebuildFailed, match=r"permission denied for database.*grant create"):
            await rebuild(owner, "intent_states", on_progress=ignore).run()
        with psycopg.connect(database.admin_url) as admin:
            grant = sql.SQL("grant create on database {} to qlp_test_owner")
            admin.execute(grant.format(sql.Identifier(database.name)))
        for name in NAMES:
            await rebuild(owner, name, on_progress=ignore).run()
    finally:
        await owner.close()
    assert await table(pool, ROWS["intent_states"]) == before


async def test_two_rebuilds_of_one_projection_do_not_meet(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await Histories.over(pool).mixture(4)
    results = await asyncio.gather(
        *(rebuild(owner, "usage_daily", on_progress=ignore, page=5).run() for _ in range(2)),
        return_exceptions=True,
    )
    [failed] = [result for result in results if isinstance(result, BaseException)]
    assert "another rebuild of usage_daily is running" in str(failed)
    assert (await verify(pool, "usage_daily")).differing == 0


async def test_a_rebuild_brings_tables_of_an_old_version_up_to_the_code(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await Histories.over(pool).mixture(1)
    async with owner.connection() as connection:
        await connection.execute("update projections set version = 7")
    for name in NAMES:
        await rebuild(owner, name, on_progress=ignore).run()
    assert [status.problem for status in await Projections(pool).status()] == [None] * 3
