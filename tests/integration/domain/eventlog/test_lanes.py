"""In each lane events have gapless places in the order of commits, and a chain of digests."""

from __future__ import annotations

import asyncio
import random
from itertools import groupby
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import open_pool
from domain.eventlog.followers import Followers
from domain.eventlog.lanes import CHAIN_START, LANES, chain_digest, lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent, WrongExpectedVersion
from domain.operations.log_findings import Kind
from domain.operations.log_integrity import LogVerifier
from domain.sealing.sealer import Sealer
from tests.support.postgres import Database, everything


async def append(log: EventLog, stream_id: str, version: int, count: int = 1) -> None:
    events = [NewEvent(uuid4(), "Happened", 1, {"n": n}) for n in range(count)]
    await log.append(stream_id, "acme", version, uuid4(), events, {})


async def places(pool: AsyncConnectionPool) -> list[tuple[Any, ...]]:
    """Lane, place, stream, version, digest and chain of every event, in the order of the lanes."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            """select lane, lane_position, stream_id, version, digest, chain_digest
            from events order by lane, lane_position""",
            binary=True,
        )
        return await cursor.fetchall()


def assert_chained(rows: list[tuple[Any, ...]]) -> None:
    for lane, its in groupby(rows, key=lambda row: row[0]):
        before, versions = CHAIN_START, dict[str, int]()
        for position, (_, stored, stream_id, version, digest, chained) in enumerate(its, 1):
            assert (stored, lane_of(stream_id)) == (position, lane)
            assert version == versions.get(stream_id, 0) + 1
            versions[stream_id] = version
            before = chain_digest(lane, position, before, digest)
            assert chained == before


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200)


@given(stream_id=text.filter(bool))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_database_and_the_code_know_the_same_lane(database: Database, stream_id: str) -> None:
    with psycopg.connect(database.admin_url) as connection:
        [(lane,)] = connection.execute("select lane_of(%s)", [stream_id]).fetchall()
    assert lane == lane_of(stream_id)
    assert 0 <= lane < LANES


async def test_every_way_in_gives_a_place_and_continues_the_chain(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database
) -> None:
    # Three streams of one lane, so that a group has several events in it.
    same = [f"s-{n}" for n in range(3000) if lane_of(f"s-{n}") == 7][:3]
    for stream_id in same:
        await append(event_log, stream_id, 0)
        await append(event_log, stream_id, 1, count=3)
    others = [f"other-{n}" for n in range(40)]
    for version in (0, 2):
        await asyncio.gather(
            *(append(event_log, each, version, count=2) for each in others),
            *(append(event_log, each, version + 4, count=2) for each in same),
        )
    async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
        await owner.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, metadata, data) select gen_random_uuid(), 'owner-' || n % 5, n / 5 + 1,
            'T', 1, 'acme', gen_random_uuid(), '{}', '{"a": 1 }' from generate_series(0, 24) n
            order by n"""
        )
    rows = await places(pool)
    assert len(rows) == 3 * 8 + 40 * 4 + 25
    assert_chained(rows)


async def test_what_is_rolled_back_leaves_no_gap(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    await append(event_log, "s", 0)
    for _ in range(3):
        with pytest.raises(WrongExpectedVersion):
            await append(event_log, "s", 7)
    await append(event_log, "s", 1)
    rows = await places(pool)
    assert [row[1] for row in rows] == [1, 2]


async def test_writers_at_once_leave_no_gap_and_break_no_chain(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    other = EventLog(pool)  # as another process has it: groups of both meet in the same lanes
    chance = random.Random(7)

    async def write(log: EventLog, writer: int) -> None:
        for n in range(25):
            await append(log, f"s-{writer}-{n}", 0, count=chance.randint(1, 3))

    await asyncio.gather(
        *(
            write(log, writer * 2 + n)
            for writer in range(16)
            for n, log in enumerate((event_log, other))
        )
    )
    rows = await places(pool)
    assert len({row[2] for row in rows}) == 800
    assert_chained(rows)


#: Streams of one lane.
SAME = [f"s-{n}" for n in range(6000) if lane_of(f"s-{n}") == 7][:6]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_an_append_needs_to_see_what_was_committed_while_it_waited(
    pool: AsyncConnectionPool, database: Database, level: str
) -> None:
    """Another level is refused; one that is the database's default is not used."""
    async with await psycopg.AsyncConnection.connect(database.admin_url, autocommit=True) as owner:
        await owner.execute(
            f"alter database {database.name} set default_transaction_isolation = '{level}'".encode()
        )
    async with await psycopg.AsyncConnection.connect(database.admin_url) as other:
        for statement in (
            """select append_one('s', 'acme', 0, gen_random_uuid(), '{}', gen_random_uuid(),
                'T', 1::smallint, '{}')""",
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
                command_id, metadata, data) values (gen_random_uuid(), 's', 1, 'T', 1, 'acme',
                gen_random_uuid(), '{}', '{}')""",
        ):
            with pytest.raises(psycopg.errors.InvalidTransactionState, match="read committed"):
                await other.execute(statement.encode())
            await other.rollback()
    fresh = await open_pool(database.url, min_size=1, max_size=4, application_name="tests")
    try:
        await asyncio.gather(*(append(EventLog(fresh), f"s-{n}", 0) for n in range(20)))
        assert_chained(await places(fresh))
    finally:
        await fresh.close()


async def test_two_holes_of_a_lane_are_both_named(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database
) -> None:
    """One before a seal, one behind it."""
    for stream_id in SAME:
        await append(event_log, stream_id, 0)
    await Sealer(pool).run_until_caught_up()
    for stream_id in SAME:
        await append(event_log, stream_id, 1)
    events = await everything(event_log)
    async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
        await owner.execute("set session_replication_role = replica")
        for victim in (1, 8):
            await owner.execute("delete from events where event_id = %s", [events[victim].event_id])
    findings = (await LogVerifier(pool).verify()).findings
    assert [
        (f.seal, f.lane_position, f.event_id) for f in findings if f.kind is Kind.EVENT_REMOVED
    ] == [(1, 2, events[2].event_id), (None, 9, events[9].event_id)]


async def test_a_client_that_stands_still_in_an_append_is_ended(
    event_log: EventLog, database: Database
) -> None:
    """Since PostgreSQL 17; its session is not idle, since more of its pipeline may come."""
    refused = 0
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as still:
        if still.info.server_version < 170_000:
            pytest.skip("PostgreSQL 17 can end a transaction")
        await still.execute("set role qlp_app")

        async def stands_still() -> None:
            nonlocal refused
            async with still.pipeline():
                cursor = await still.execute(
                    """select append_one('s-1', 'acme', 0, gen_random_uuid(), '{}',
                    gen_random_uuid(), 'T', 1::smallint, '{}')"""
                )
                await cursor.fetchall()
                async with asyncio.timeout(20):
                    while not await appended(event_log, "s-1"):
                        refused += 1

        with pytest.raises(psycopg.OperationalError):
            await stands_still()
    assert refused >= 3, "each waits two seconds"


async def appended(log: EventLog, stream_id: str) -> bool:
    """Whether a lane was free in time."""
    try:
        await append(log, stream_id, 0)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


async def test_a_clock_that_jumps_changes_times_and_no_order(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database
) -> None:
    """Days forward and back, between any two events and between two seals."""
    names = ("append_one", "append_commands", "append_one_each")
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        written = [
            owner.execute(
                "select pg_get_functiondef(oid) from pg_proc where proname = %s", [name]
            ).fetchall()[0][0]
            for name in names
        ]
        followed: list[tuple[str, int]] = []
        for version, days in enumerate((0, 400, -400, 3, 0)):
            for function in written:
                jumped = f"clock_timestamp() + interval '{days} days'"
                owner.execute(function.replace("clock_timestamp()", jumped))
            await asyncio.gather(*(append(event_log, f"s-{n}", version) for n in range(12)))
            lag = await Followers(pool).lag("follower")
            assert (lag.events, lag.seconds >= 0) == (12, True)
            more = True
            while more:
                async with Followers(pool).next_page("follower") as page:
                    if page is not None:
                        followed += [(event.stream_id, event.version) for event in page.events]
                        page.save()
                more = page is not None
            assert await Sealer(pool).run_until_caught_up() == 1
    assert sorted(followed) == [
        (f"s-{n}", v) for n in sorted(range(12), key=str) for v in range(1, 6)
    ]
    for stream in {stream for stream, _ in followed}:
        assert [version for each, version in followed if each == stream] == [1, 2, 3, 4, 5]
    found = await LogVerifier(pool).verify()
    assert (found.events, found.findings) == (60, [])
