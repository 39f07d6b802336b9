"""Many appends at once, of one process and of several."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID, uuid4, uuid5

import psycopg
import pytest
from psycopg import errors as pg
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import open_pool
from domain.eventlog import group_commit
from domain.eventlog.heads import Heads
from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import (
    AppendResult,
    InlineWrite,
    NewEvent,
    RecordedEvent,
    WrongExpectedVersion,
)
from tests.support.postgres import Database, everything

UPSERT = b"""insert into seal_anchors (anchor, seq) values (%(name)s, 1)
    on conflict (anchor) do update set seq = seal_anchors.seq + 1"""

GROUP = "select o_accepted, o_recorded_at is null from append_commands('9s', %s)"
LOCK = "select pg_advisory_xact_lock(1, lane_of(%s))"


async def append(
    log: EventLog, stream_id: str, expected: int = 0, inline: list[InlineWrite] | None = None
) -> AppendResult:
    command_id = uuid4()
    event = NewEvent(uuid5(command_id, "0"), "Happened", 1, {})
    return await log.append(stream_id, "acme", expected, command_id, [event], {}, inline or ())


@pytest.fixture
async def other_log(database: Database) -> AsyncIterator[EventLog]:
    """The log as another process sees it."""
    pool = await open_pool(database.url, min_size=1, max_size=8, application_name="other")
    yield EventLog(pool)
    await pool.close()


async def follow(log: EventLog, done: asyncio.Event) -> list[RecordedEvent]:
    """What a follower has read once it has come to the end and everything is written."""
    seen: list[RecordedEvent] = []
    heads = Heads.start()
    while True:
        final = done.is_set()
        page, heads = await log.read_all(heads, 100)
        seen += page
        if final and not page:
            return seen


async def test_16_writers_share_transactions_and_followers_see_each_event_once_and_in_order(
    event_log: EventLog, other_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", 60.0)  # under load, none is fast
    done = asyncio.Event()
    written: list[RecordedEvent] = []

    async def append_as_found(stream_id: str) -> None:
        while True:
            version = len(await event_log.read_stream(stream_id))
            try:
                written.extend((await append(event_log, stream_id, version)).events)
                return
            except WrongExpectedVersion:
                continue

    async def write(writer: int) -> None:
        for number in range(20):
            written.extend((await append(event_log, f"own-{writer}", number)).events)
            if number % 4 == 0:
                await append_as_found(f"shared-{writer % 3}")

    followers = [asyncio.create_task(follow(log, done)) for log in (event_log, other_log)]
    await asyncio.gather(*(write(number) for number in range(16)))
    done.set()
    assert len(written) == 16 * 25
    for seen in await asyncio.gather(*followers):
        assert sorted(event.event_id for event in seen) == sorted(e.event_id for e in written)
        versions: dict[str, list[int]] = {}
        for event in seen:
            versions.setdefault(event.stream_id, []).append(event.version)
        assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    transactions = {event.recorded_at for event in written}
    assert len(transactions) < len(written) / 2


async def test_a_few_appends_at_once_have_a_transaction_each(event_log: EventLog) -> None:
    few = group_commit.SEPARATE_CALLERS
    results = await asyncio.gather(*(append(event_log, f"s-{n}") for n in range(few)))
    assert len({result.events[0].recorded_at for result in results}) == few


async def test_each_stream_has_one_winner_when_processes_append_in_opposite_orders(
    event_log: EventLog, other_log: EventLog, pool: AsyncConnectionPool
) -> None:
    streams = [f"s-{number}" for number in range(24)]

    async def round_of(log: EventLog, order: list[str], version: int) -> int:
        """How many appends won."""
        results = await asyncio.gather(
            *(append(log, s, version, [InlineWrite(UPSERT, {"name": s})]) for s in order),
            return_exceptions=True,
        )
        for result in results:
            assert isinstance(result, AppendResult | WrongExpectedVersion)
        return sum(isinstance(result, AppendResult) for result in results)

    async with asyncio.timeout(60):
        for version in range(10):
            won = await asyncio.gather(
                round_of(event_log, streams, version), round_of(other_log, streams[::-1], version)
            )
            assert sum(won) == len(streams)
    log = await everything(event_log)
    assert len(log) == len(streams) * 10
    assert len({event.recorded_at for event in log}) < len(log)
    async with pool.connection() as connection:
        written = await connection.execute("select sum(seq)::int from seal_anchors")
        assert await written.fetchall() == [(len(streams) * 10,)]


async def test_inline_writes_that_cross_those_of_another_group_are_made_in_the_end(
    event_log: EventLog, other_log: EventLog, pool: AsyncConnectionPool
) -> None:
    rows = [f"row-{number}" for number in range(12)]

    async def round_of(log: EventLog, prefix: str, order: list[str]) -> None:
        await asyncio.gather(
            *(append(log, f"{prefix}-{r}", 0, [InlineWrite(UPSERT, {"name": r})]) for r in order)
        )

    for number in range(10):
        await asyncio.gather(
            round_of(event_log, f"a-{number}", rows),
            round_of(other_log, f"b-{number}", rows[::-1]),
        )
    async with pool.connection() as connection:
        written = await connection.execute("select sum(seq)::int from seal_anchors")
        assert await written.fetchall() == [(len(rows) * 20,)]


async def test_a_stream_that_another_process_blocks_blocks_no_other_stream(
    event_log: EventLog, database: Database
) -> None:
    async with await psycopg.AsyncConnection.connect(database.admin_url) as holder:
        await holder.execute(LOCK, ["held"])
        tasks = [asyncio.create_task(append(event_log, f"s-{number}")) for number in range(8)]
        held = [asyncio.create_task(append(event_log, "held", number)) for number in range(6)]
        tasks += [asyncio.create_task(append(event_log, f"t-{number}")) for number in range(8)]
        await asyncio.wait_for(asyncio.gather(*tasks), 8)
        assert not any(task.done() for task in held)
    results = await asyncio.gather(*held, return_exceptions=True)
    assert isinstance(results[0], AppendResult)
    assert all(isinstance(result, AppendResult | WrongExpectedVersion) for result in results)


async def test_slow_transactions_block_no_other(event_log: EventLog) -> None:
    slow = [InlineWrite(b"select pg_sleep(20)", {})]
    sleeping = [asyncio.create_task(append(event_log, f"slow-{n}", 0, slow)) for n in range(8)]
    for number in range(20):
        await append(event_log, f"s-{number}")
    assert not any(task.done() for task in sleeping)
    for task in sleeping:
        task.cancel()
    await asyncio.wait(sleeping)


async def test_what_waits_for_a_lane_that_a_slow_transaction_holds_takes_no_connection(
    database: Database,
) -> None:
    numbers = (f"s-{number}" for number in itertools.count())
    slow, *same = itertools.islice((name for name in numbers if lane_of(name) == 7), 13)
    pool = await open_pool(database.url, min_size=4, max_size=4, application_name="tests")
    log = EventLog(pool)
    sleeping = asyncio.create_task(append(log, slow, 0, [InlineWrite(b"select pg_sleep(60)", {})]))
    await asyncio.sleep(0.2)  # it has begun; otherwise the others are even less in its way
    waiting = [asyncio.create_task(append(log, name)) for name in same]
    others = [f"o-{number}" for number in range(100) if lane_of(f"o-{number}") != 7]
    await asyncio.wait_for(asyncio.gather(*(append(log, name) for name in others)), 1.5)
    assert not any(task.done() for task in waiting)
    refused = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(each) for each in refused} == {pg.LockNotAvailable}
    sleeping.cancel()
    await asyncio.wait({sleeping})
    await append(log, same[0])
    await pool.close()


async def test_a_command_that_takes_long_does_not_hold_up_its_group(event_log: EventLog) -> None:
    slow = [InlineWrite(b"select pg_sleep(1.5)", {})]
    ended: list[int] = []

    async def append_one(number: int) -> None:
        await append(event_log, f"s-{number}", 0, slow if number == 9 else None)
        ended.append(number)

    await asyncio.gather(*map(append_one, range(24)))
    assert ended[-1] == 9


def command(stream_id: str, expected: int, count: int = 1) -> dict[str, object]:
    events = [
        {"event_id": str(uuid4()), "type": "T", "schema_version": 1, "data": "{}"}
        for _ in range(count)
    ]
    given = {"stream_id": stream_id, "tenant_id": "acme", "expected_version": expected}
    return {**given, "command_id": str(uuid4()), "metadata": "{}", "events": events}


def in_different_lanes(prefix: str, count: int) -> list[str]:
    found: dict[int, str] = {}
    numbers = itertools.count()
    while len(found) < count:
        stream_id = f"{prefix}-{next(numbers)}"
        found.setdefault(lane_of(stream_id), stream_id)
    return list(found.values())


async def test_groups_of_the_same_streams_in_opposite_orders_do_not_deadlock(
    database: Database,
) -> None:
    streams = in_different_lanes("s", 9)
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    async with AsyncExitStack() as stack:
        one, two, holder = [
            await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(database.admin_url, autocommit=True)
            )
            for _ in range(3)
        ]

        async def accepted(connection: psycopg.AsyncConnection, order: list[str]) -> int:
            commands = Jsonb([command(stream_id, 0) for stream_id in order])
            rows = await connection.execute(GROUP, [commands])
            [(each, _)] = await rows.fetchall()
            return sum(each)

        for number in range(
            len(streams)
        ):  # both have taken the locks that come before it when they meet there
            async with holder.transaction():
                await holder.execute(LOCK, [streams[number]])
                both = asyncio.gather(accepted(one, streams), accepted(two, streams[::-1]))
                while (await (await holder.execute(waiting)).fetchall()) != [(2,)]:
                    await asyncio.sleep(0.01)
            assert sorted(await both) == [0, len(streams)]
            streams = in_different_lanes(f"s-{number}", 9)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"stream_id": None}, pg.NotNullViolation),
        ({"tenant_id": None}, pg.NotNullViolation),
        ({"command_id": None}, pg.NotNullViolation),
        ({"metadata": None}, pg.NotNullViolation),
        ({"events": [{}]}, pg.NotNullViolation),
        ({"events": {"data": "{}"}}, pg.InvalidParameterValue),
        ({"stream_id": "same"}, pg.UniqueViolation),
    ],
)
async def test_whoever_calls_the_function_directly_cannot_break_a_stream(
    pool: AsyncConnectionPool,
    event_log: EventLog,
    changes: dict[str, object],
    error: type[Exception],
) -> None:
    commands = [command("same", 0, 2), command("s", 0) | changes]
    async with pool.connection() as connection:
        with pytest.raises(error):
            await connection.execute(GROUP, [Jsonb(commands)])
        rows = await connection.execute(GROUP, [Jsonb([command("s", 3)])])
        assert await rows.fetchall() == [([False], True)]
    assert await everything(event_log) == []


async def test_a_transaction_that_wrote_before_puts_a_group_behind_later_events(
    event_log: EventLog, database: Database
) -> None:
    async with await psycopg.AsyncConnection.connect(database.admin_url) as early:
        await early.execute("select pg_current_xact_id()")
        await append(event_log, "s-1")
        await early.execute(GROUP, [Jsonb([command("s-0", 0), command("s-1", 1)])])
    events, _ = await event_log.read_all(Heads.start())
    assert [e.version for e in events if e.stream_id == "s-1"] == [1, 2]


async def test_all_ways_in_are_open_to_the_application_alone(pool: AsyncConnectionPool) -> None:
    async with pool.connection() as connection:
        rows = await connection.execute(
            """select proname, prosecdef, proconfig @> array['search_path=pg_catalog, pg_temp'],
                array(select grantee::regrole::text from aclexplode(proacl)
                      where grantee <> proowner)
            from pg_proc where proname like 'append\\_%' order by proname"""
        )
        assert await rows.fetchall() == [
            (name, True, True, ["qlp_app"])
            for name in ("append_commands", "append_many", "append_one", "append_one_each")
        ]


def test_two_event_loops_can_append_one_after_the_other(database: Database) -> None:
    async def run(prefix: str) -> set[UUID]:
        pool = await open_pool(database.url, min_size=1, max_size=8, application_name="tests")
        logs = [EventLog(pool), EventLog(pool)]
        results = await asyncio.gather(*(append(logs[n % 2], f"{prefix}-{n}") for n in range(40)))
        await pool.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return {result.events[0].event_id for result in results}

    assert len(asyncio.run(run("a")) | asyncio.run(run("b"))) == 80
