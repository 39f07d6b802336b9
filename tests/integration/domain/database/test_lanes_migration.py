"""A log of before lanes gets its places while others write, and whatever interrupts that."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.database import migrate as module
from domain.database.migrate import check_schema, load_migrations, migrate, to_confirm
from domain.database.pool import open_pool
from domain.eventlog.followers import Followers
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent, RecordedEvent
from domain.operations.doctor.triggers import examine_triggers
from domain.operations.log_integrity import LogVerifier
from domain.operations.projections import rebuild
from domain.projections.registry import Projections
from tests.support.postgres import Database, Server, pool_of_owner

FOLDER = Path(module.__file__).with_name("migrations")
ALL = [str(migration) for migration in load_migrations()]
BEFORE, CONFIRMED = 13, "0023_order_by_lanes"
AT_ONCE = [name for name in ALL if name != CONFIRMED]


@pytest.fixture
async def old(postgres_server: Server, tmp_path: Path) -> AsyncIterator[Database]:
    """A database with the schema of before lanes."""
    name = f"qlp_old_{uuid4().hex[:8]}"
    postgres_server.execute("create database {}", name)
    folder = Path(shutil.copytree(FOLDER, tmp_path / "migrations"))
    for later in ALL[BEFORE:]:
        (folder / f"{later}.sql").unlink()
    await migrate(postgres_server.admin_url(name), folder)
    yield Database(name, postgres_server.admin_url(name), postgres_server.app_url(name))
    postgres_server.execute("drop database {} with (force)", name)


@asynccontextmanager
async def pool_of(database: Database) -> AsyncIterator[AsyncConnectionPool]:
    pool = await open_pool(database.url, min_size=1, max_size=8, application_name="tests")
    try:
        yield pool
    finally:
        await pool.close()


#: What the release before calls: two events of a command, one event, several commands.
OLD_MANY = """select o_transaction_id, o_recorded_at, o_positions
    from append_events(%(stream)s, 'acme', %(version)s, gen_random_uuid(), '{"n": 1}',
        array[gen_random_uuid(), gen_random_uuid()], array['A', 'B'], array[1, 1]::smallint[],
        array['{"a":1}', '{"b" : 2}'])"""
OLD_ONE = """select o_transaction_id, o_recorded_at, o_position
    from append_event(%(stream)s, 'acme', %(version)s, gen_random_uuid(), '{"n": 1}',
        gen_random_uuid(), 'A', 1::smallint, '{"a":1}')"""
OLD_GROUP = """select o_accepted, o_positions
    from append_group('5s', jsonb_build_array(jsonb_build_object('stream_id', %(stream)s::text,
        'tenant_id', 'acme', 'expected_version', %(version)s::int, 'command_id', gen_random_uuid(),
        'metadata', '{}', 'events', jsonb_build_array(jsonb_build_object(
            'event_id', gen_random_uuid(), 'type', 'A', 'schema_version', 1, 'data', '{}')))))"""


async def append(pool: AsyncConnectionPool, stream: str, version: int, call: str) -> None:
    async with pool.connection() as connection:
        await connection.execute(call.encode(), {"stream": stream, "version": version})


async def append_now(pool: AsyncConnectionPool, stream: str, version: int, _call: str) -> None:
    """As this release does, whatever the call is for the release before."""
    count = 2 if _call == OLD_MANY else 1
    events = [NewEvent(uuid4(), "Happened", 1, {"of": stream}) for _ in range(count)]
    await EventLog(pool).append(stream, "acme", version, uuid4(), events, {})


async def filled(pool: AsyncConnectionPool, streams: int, each: int) -> None:
    for version in range(each):
        for number in range(streams):
            await append(pool, f"s-{number}", version, OLD_ONE)


Append = Callable[[AsyncConnectionPool, str, int, str], Awaitable[None]]


class Writers:
    """Append to streams, each at its version, until they are told to stop."""

    def __init__(
        self, pool: AsyncConnectionPool, versions: Mapping[str, int], append: Append = append
    ) -> None:
        self._pool, self._append, self._stop = pool, append, asyncio.Event()
        self._writers = [asyncio.create_task(self._write(*each)) for each in versions.items()]
        self.written = 0

    async def _write(self, stream: str, version: int) -> None:
        while not self._stop.is_set():
            for call, count in ((OLD_MANY, 2), (OLD_ONE, 1), (OLD_GROUP, 1)):
                await self._append(self._pool, stream, version, call)
                version += count
                self.written += count

    async def stopped(self) -> int:
        """How many events they have appended, each once; fails if an append did."""
        self._stop.set()
        await asyncio.gather(*self._writers)
        return self.written


@asynccontextmanager
async def migrating(database: Database, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``qlp migrate`` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "domain.operations", "migrate", *options),
        env={**os.environ, "DATABASE_ADMIN_URL": database.admin_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process, word: str) -> str:
    """The first line on standard error with a word; fails if there is none."""
    assert process.stderr is not None
    async for line in process.stderr:
        if word in line.decode():
            return line.decode()
    raise AssertionError(f"ended without saying {word!r}")


async def finished(database: Database, *options: str) -> list[str]:
    async with migrating(database, *options) as process:
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
    return [line.removeprefix("applied ") for line in out.decode().splitlines()]


async def whole(pool: AsyncConnectionPool, events: int) -> None:
    """Every event has its place, each stream is in its order, and the chain leads to all."""
    found = await LogVerifier(pool).verify()
    assert (found.unsealed, found.findings) == (events, [])
    versions: dict[str, int] = {}
    log = EventLog(pool)
    for event in await log.read_between(Heads.start(), await log.heads()):
        assert event.version == versions.get(event.stream_id, 0) + 1
        versions[event.stream_id] = event.version
    assert sum(versions.values()) == events


async def test_a_log_is_migrated_beside_writers_though_it_is_killed_in_the_middle(
    old: Database,
) -> None:
    async with pool_of(old) as pool:
        await filled(pool, 40, 30)
        streams = {f"s-{n}": 30 for n in range(0, 40, 10)} | dict.fromkeys(["new", "newer"], 0)
        writers = Writers(pool, streams)
        with psycopg.connect(old.admin_url, autocommit=True) as owner:
            owner.execute("select pg_advisory_lock(1, 100)")  # as a writer in that lane
            async with migrating(old) as process:
                await said(process, "100 of 256")
                owner.execute(
                    """select pg_terminate_backend(pid) from pg_stat_activity
                    where query like '%call place_events%' and pid <> pg_backend_pid()"""
                )
                assert await process.wait() == 1
        names = await finished(old)
        assert names == AT_ONCE[AT_ONCE.index("0017_place_events") :]
        appended = await writers.stopped()
        assert appended > 0
        await whole(pool, 40 * 30 + appended)

        # Everything works before it is confirmed, beside code of the release before.
        both = [
            Writers(pool, dict.fromkeys(["old", "older"], 0)),
            Writers(pool, dict.fromkeys(["new now", "newest"], 0), append_now),
        ]
        assert (await check_schema(pool), await to_confirm(pool)) == ([], [CONFIRMED])
        assert [f.status for f in await examine_triggers(pool, old.admin_url)] == ["ok"]
        async with pool_of_owner(old) as owner:
            await rebuild(owner, "usage_daily", on_progress=lambda _progress: None).run()
        await Projections(pool).run_until_caught_up()
        appended += sum([await each.stopped() for each in both])
        await whole(pool, 40 * 30 + appended)
        async with pool.connection() as connection:
            of_before = await connection.execute(
                """select count(distinct (transaction_id, position)) from events, log_horizon
                where transaction_id < horizon"""
            )
            assert await of_before.fetchall() == [(40 * 30 + appended,)]

        writers = Writers(pool, dict.fromkeys(["last", "very last"], 0), append_now)
        assert await finished(old, "--confirm") == [CONFIRMED]
        assert await finished(old) == ["nothing to apply"]
        appended += await writers.stopped()
        await whole(pool, 40 * 30 + appended)
        assert [f.status for f in await examine_triggers(pool, old.admin_url)] == ["ok"]


async def test_who_holds_a_table_holds_up_the_migration_and_not_the_writers(
    old: Database,
) -> None:
    async with pool_of(old) as pool:
        await filled(pool, 4, 2)
        async with await psycopg.AsyncConnection.connect(old.admin_url) as reader:
            await reader.execute("select from events")  # as a dump does
            async with migrating(old) as process:
                waits = await said(process, "waits for what")
                assert waits.startswith("0014_lanes ")
                longest = 0.0
                for version in range(300):
                    began = time.monotonic()
                    await append(pool, "beside", version, OLD_ONE)
                    await asyncio.sleep(0.01)
                    longest = max(longest, time.monotonic() - began)
                assert longest < 1.5, "they wait for what waits for the table"
                await reader.rollback()
                await said(process, "have their places")
        assert await finished(old) != ["nothing to apply"]
        await whole(pool, 308)
        async with await psycopg.AsyncConnection.connect(old.admin_url) as reader:
            await reader.execute("select from events")
            async with migrating(old, "--confirm") as process:
                await said(process, "waits for what")
                async with asyncio.timeout(10):
                    for version in range(50):
                        await append_now(pool, "now", version, OLD_ONE)
        assert await finished(old, "--confirm") == [CONFIRMED]
        await whole(pool, 358)


async def test_groups_of_the_release_before_do_not_wait_for_one_another(
    old: Database, postgres_server: Server
) -> None:
    """Each of many streams in as many lanes, in whatever order."""
    await migrate(old.admin_url)
    call = """select o_accepted from append_group('200ms', (
        select jsonb_agg(jsonb_build_object('stream_id', gen_random_uuid()::text, 'tenant_id',
            'acme', 'expected_version', 0, 'command_id', gen_random_uuid(), 'metadata', '{}',
            'events', jsonb_build_array(jsonb_build_object('event_id', gen_random_uuid(), 'type',
                'A', 'schema_version', 1, 'data', '{}'))))
        from generate_series(1, 40)))"""

    async def groups(pool: AsyncConnectionPool) -> None:
        async with pool.connection() as connection:
            for _ in range(25):
                rows = await (await connection.execute(call.encode())).fetchall()
                assert rows == [([True] * 40,)]

    async with pool_of(old) as pool:
        await asyncio.gather(*(groups(pool) for _ in range(4)))
        await whole(pool, 4 * 25 * 40)


async def test_a_migration_that_stands_still_lets_go(old: Database) -> None:
    """As that of a laptop that was closed; it holds a table, and goes on the next time."""
    async with pool_of(old) as pool:
        await filled(pool, 4, 2)
        with psycopg.connect(old.admin_url, autocommit=True) as owner:
            owner.execute("select pg_advisory_lock(42)")
            owner.execute(
                """create function slow() returns event_trigger language plpgsql as $$
                begin
                    if tg_tag = 'ALTER TABLE' and current_query() like '%unplaced_lane%' then
                        raise info 'now';
                        perform pg_advisory_lock(42);
                    end if;
                end $$"""
            )
            owner.execute("create event trigger slow on ddl_command_end execute function slow()")
            async with migrating(old) as process:
                await said(process, "now")
                process.send_signal(signal.SIGSTOP)
                owner.execute("select pg_advisory_unlock(42)")
                async with asyncio.timeout(30):
                    await append(pool, "beside", 0, OLD_ONE)
                process.send_signal(signal.SIGCONT)
                assert await process.wait() == 1
            owner.execute("drop event trigger slow")
        assert await finished(old) != ["nothing to apply"]
        await whole(pool, 9)


async def test_an_index_that_was_not_finished_is_made_anew(old: Database) -> None:
    async with pool_of(old) as pool:
        await filled(pool, 4, 2)
        async with await psycopg.AsyncConnection.connect(old.admin_url) as other:
            await other.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await other.execute("select 1")  # what is built concurrently waits for it
            async with migrating(old):
                while not await invalid(pool):
                    await asyncio.sleep(0.05)
                await append(pool, "beside", 0, OLD_ONE)
        assert await finished(old) != ["nothing to apply"]
        assert await invalid(pool) == []
        await whole(pool, 9)


async def invalid(pool: AsyncConnectionPool) -> list[str]:
    async with pool.connection() as connection:
        rows = await connection.execute(
            "select indexrelid::regclass::text from pg_index where not indisvalid"
        )
        return [name for (name,) in await rows.fetchall()]


async def test_nothing_but_the_place_of_an_event_may_change_meanwhile(
    old: Database, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "to_0016"))
    for later in ALL[16:]:
        (folder / f"{later}.sql").unlink()
    async with pool_of(old) as pool:
        await filled(pool, 2, 1)
        await migrate(old.admin_url, folder)
    changes = [
        *(f"update events set {c} = {c} || ' '" for c in ("stream_id", "type", "tenant_id")),
        *(f"update events set {c} = '{{ }}'" for c in ("metadata", "data")),
        *(f"update events set {c} = {c} + 1" for c in ("version", "schema_version")),
        *(f"update events set {c} = gen_random_uuid()" for c in ("event_id", "command_id")),
        "update events set recorded_at = now(), lane = 1",
        "update events set digest = sha256('x'), lane = 1",
        "update events set transaction_id = '1'",
        "delete from events",
        "truncate events",
    ]
    with psycopg.connect(old.admin_url, autocommit=True) as owner:
        for change in changes:
            with pytest.raises(psycopg.errors.RestrictViolation, match="immutable"):
                owner.execute(change.encode())
        owner.execute("call place_events()")
        with pytest.raises(psycopg.errors.RestrictViolation, match="immutable"):
            owner.execute("update events set lane_position = lane_position + 1")


@pytest.mark.parametrize("cluster", ["the same cluster", "another cluster"])
async def test_followers_go_on_where_their_checkpoints_were(old: Database, cluster: str) -> None:
    async with pool_of(old) as pool:
        await filled(pool, 20, 3)
        with psycopg.connect(old.admin_url) as owner:
            owner.execute(
                """insert into checkpoints (name, transaction_id, position, system_identifier)
                select c.name, transaction_id, position, system_identifier
                from events cross join log_identity
                join (values ('relay', 25), ('projection:usage_daily', 60), ('seals', 7))
                    as c (name, n) on c.n = position"""
            )
            if cluster == "another cluster":
                owner.execute(
                    "update checkpoints set system_identifier = 1, transaction_id = '999999999'"
                )
        assert await migrate(old.admin_url) == AT_ONCE[BEFORE:]
        left = {
            follower: await to_process(pool, follower)
            for follower in ("relay", "projection:usage_daily", "projection:error_patterns")
        }
        with psycopg.connect(old.admin_url) as owner:
            names = owner.execute("select distinct follower from followers order by 1").fetchall()
            found = owner.execute("select event_id, position from events").fetchall()
        positions: dict[object, int] = dict(found)
    assert ("seals",) not in names
    assert {follower: len(events) for follower, events in left.items()} == {
        "relay": 35,
        "projection:usage_daily": 0,
        "projection:error_patterns": 60,
    }
    assert min(positions[event.event_id] for event in left["relay"]) == 26


async def to_process(pool: AsyncConnectionPool, follower: str) -> list[RecordedEvent]:
    events: list[RecordedEvent] = []
    while True:
        async with Followers(pool).next_page(follower) as page:
            if page is None:
                return events
            events += page.events
            page.save()
