"""Appends that share a transaction: each caller sees what it would have seen alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, PoolClosed

from domain.eventlog import group_commit
from domain.eventlog.log import EventLog
from domain.eventlog.models import (
    AppendResult,
    EventIdTaken,
    InlineWrite,
    InvalidEvent,
    NewEvent,
    RecordedEvent,
    StreamOfAnotherTenant,
    WrongExpectedVersion,
)
from tests.support.postgres import Database, everything

WRITE = b"insert into followers (follower, part) values (%(name)s, 0)"
TAKEN = UUID(int=1)

#: Sleeps for as long as somebody holds the advisory lock 1; to wait for it would time out.
UNTIL_LET_GO = b"""do $$ begin
    while not pg_try_advisory_xact_lock(1) loop perform pg_sleep(0.05); end loop; end $$"""


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes while one append is under way makes one group, and is waited for."""
    monkeypatch.setattr(group_commit, "SEPARATE_CALLERS", 1)
    monkeypatch.setattr(group_commit, "SHARED_TRANSACTIONS", 1)
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", 60.0)


def write(name: str) -> InlineWrite:
    return InlineWrite(WRITE, {"name": name})


def fail(sqlstate: str) -> InlineWrite:
    return InlineWrite(b"do $$ begin raise sqlstate '" + sqlstate.encode() + b"'; end $$", {})


async def append(
    log: EventLog,
    stream_id: str,
    expected: int = 0,
    inline: Sequence[InlineWrite] = (),
    *,
    command_id: UUID | None = None,
    tenant_id: str = "acme",
    event_id: UUID | None = None,
    data: dict[str, Any] | bytes = b"{}",
    count: int = 1,
) -> AppendResult:
    command_id = command_id or uuid4()
    events = [
        NewEvent(event_id or uuid5(command_id, str(n)), "Happened", 1, data) for n in range(count)
    ]
    return await log.append(stream_id, tenant_id, expected, command_id, events, {"n": 1}, inline)


async def together(log: EventLog, *appends: Any) -> list[Any]:
    """What comes of ``appends``, which queue while another one is under way."""
    first, *others = await asyncio.gather(
        append(log, f"first-{uuid4()}"), *appends, return_exceptions=True
    )
    assert isinstance(first, AppendResult)
    return others


async def names_written(pool: AsyncConnectionPool) -> list[str]:
    async with pool.connection() as connection:
        rows = await connection.execute("select follower from followers order by follower")
        return [name for (name,) in await rows.fetchall()]


def transactions(*results: AppendResult) -> set[datetime]:
    """What is recorded in one transaction is recorded at one time."""
    return {event.recorded_at for result in results for event in result.events}


async def sleeper(database: Database) -> int:
    """The backend that is in pg_sleep, as soon as there is one."""
    query = """select pid from pg_stat_activity
        where wait_event = 'PgSleep' and datname = current_database()"""
    async with await psycopg.AsyncConnection.connect(database.admin_url, autocommit=True) as admin:
        while not (rows := await (await admin.execute(query)).fetchall()):
            await asyncio.sleep(0.01)
    [[pid]] = rows
    return int(pid)


async def terminate_sleeper(database: Database) -> None:
    pid = await sleeper(database)
    async with await psycopg.AsyncConnection.connect(database.admin_url) as admin:
        await admin.execute("select pg_terminate_backend(%s)", [pid])


async def test_a_group_is_recorded_as_its_appends_would_be_one_by_one(event_log: EventLog) -> None:
    results = await together(
        event_log, *(append(event_log, f"s-{n}", count=n, data={"n": n}) for n in range(1, 6))
    )
    assert len(transactions(*results)) == 1
    for n, result in enumerate(results, 1):
        assert await event_log.read_stream(f"s-{n}") == result.events
        assert [event.version for event in result.events] == list(range(1, n + 1))
        assert not result.duplicate
    log = await everything(event_log)
    recorded = [event for result in results for event in result.events]
    assert sorted(log[1:]) == sorted(recorded)


async def test_refused_commands_do_not_disturb_the_rest_of_their_group(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    repeated = uuid4()
    original = await append(event_log, "repeated", command_id=repeated)
    await append(event_log, "behind", count=3)
    await append(event_log, "others", tenant_id="other")

    good, behind, ahead, others, again, better = await together(
        event_log,
        append(event_log, "good", 0, [write("good")]),
        append(event_log, "behind", 2, [write("behind")]),
        append(event_log, "ahead", 1, [write("ahead")]),
        append(event_log, "others", 1, [write("others")]),
        append(event_log, "repeated", 1, [write("again")], command_id=repeated),
        append(event_log, "better", 0, [write("better"), write("best")]),
    )
    assert len(transactions(good, better)) == 1
    assert isinstance(behind, WrongExpectedVersion)
    assert (behind.stream_id, behind.expected, behind.actual) == ("behind", 2, 3)
    assert isinstance(ahead, WrongExpectedVersion)
    assert (ahead.stream_id, ahead.expected, ahead.actual) == ("ahead", 1, 0)
    assert isinstance(others, StreamOfAnotherTenant)
    assert again == AppendResult(original.events, duplicate=True)
    assert await names_written(pool) == ["best", "better", "good"]


async def test_a_group_of_nothing_but_refused_commands_writes_nothing(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    refused = await together(
        event_log, *(append(event_log, f"s-{n}", 7, [write(f"{n}")]) for n in range(3))
    )
    assert [type(error) for error in refused] == [WrongExpectedVersion] * 3
    assert len(await everything(event_log)) == 1
    assert await names_written(pool) == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"event_id": TAKEN}, EventIdTaken),
        ({"data": b"{"}, InvalidEvent),
        ({"data": b"\x00"}, psycopg.DataError),
        ({"tenant_id": "a\ud800"}, UnicodeEncodeError),
        ({"inline": [write("a"), write("")]}, psycopg.errors.CheckViolation),
        ({"inline": [write("a"), write("b\x00")]}, psycopg.DataError),
        ({"inline": [InlineWrite(b"no sql", {})]}, psycopg.errors.SyntaxError),
        ({"inline": [InlineWrite(WRITE, {})]}, psycopg.ProgrammingError),
        ({"inline": [fail("40001")]}, psycopg.errors.SerializationFailure),
        ({"inline": [fail("55P03")]}, psycopg.errors.LockNotAvailable),
    ],
)
async def test_a_failure_reaches_its_own_caller_only(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    bad: dict[str, Any],
    error: type[Exception],
) -> None:
    await append(event_log, "taken", event_id=TAKEN)
    before, failed, after = await together(
        event_log,
        append(event_log, "before", 0, [write("before")]),
        append(event_log, "bad", **bad),
        append(event_log, "after", 0, [write("after")]),
    )
    assert isinstance(failed, error)
    assert await event_log.read_stream("bad") == []
    assert await event_log.read_stream("before") == before.events
    assert await event_log.read_stream("after") == after.events
    assert await names_written(pool) == ["after", "before"]
    assert not (await append(event_log, "bad")).duplicate


async def test_commands_for_one_stream_queue_in_their_order(event_log: EventLog) -> None:
    command_id = uuid4()
    first, other, second, again, late = await together(
        event_log,
        append(event_log, "s", 0, command_id=command_id),
        append(event_log, "other"),
        append(event_log, "s", 1),
        append(event_log, "s", 0, command_id=command_id),
        append(event_log, "s", 0),
    )
    assert len(transactions(first, other)) == 1
    assert again == AppendResult(first.events, duplicate=True)
    assert isinstance(late, WrongExpectedVersion)
    assert late.actual == 2
    log: list[RecordedEvent] = await everything(event_log)
    assert [event for event in log if event.stream_id == "s"] == first.events + second.events


async def test_a_group_is_bounded_in_commands_events_and_characters(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_COMMANDS", 4)
    small = await together(event_log, *(append(event_log, f"small-{n}") for n in range(9)))
    assert [len(transactions(*small[n : n + 4])) for n in (0, 4, 8)] == [1, 1, 1]
    assert len(transactions(*small)) == 3

    many = await together(event_log, *(append(event_log, f"m-{n}", count=300) for n in range(3)))
    assert len(transactions(*many)) == 3

    text = {"text": "x" * (group_commit.MAX_CHARACTERS // 2 - 100)}
    large = await together(event_log, *(append(event_log, f"l-{n}", data=text) for n in range(4)))
    assert [len(transactions(*pair)) for pair in (large[:2], large[2:])] == [1, 1]
    assert len(transactions(*large)) == 2


async def test_a_cancelled_caller_does_not_disturb_the_rest_of_its_group(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database
) -> None:
    slow = [InlineWrite(UNTIL_LET_GO, {}), write("slow")]
    async with await psycopg.AsyncConnection.connect(database.admin_url) as holder:
        await holder.execute("select pg_advisory_xact_lock(1)")
        tasks = [
            asyncio.create_task(append(event_log, stream_id, 0, inline))
            for stream_id, inline in {"first": [], "slow": slow, "gone": [], "kept": []}.items()
        ]
        await sleeper(database)
        tasks[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[2]
    results = await asyncio.gather(tasks[1], tasks[3])
    assert len(transactions(*results)) == 1
    assert await names_written(pool) == ["slow"]
    assert await event_log.read_stream("kept") == results[1].events


async def test_a_command_whose_caller_is_cancelled_in_the_queue_is_not_carried_out(
    event_log: EventLog,
) -> None:
    first, gone, kept = (
        asyncio.create_task(append(event_log, name)) for name in ("first", "gone", "kept")
    )
    await asyncio.sleep(0)  # they have begun
    gone.cancel()
    await asyncio.gather(first, kept)
    assert gone.cancelled()
    assert await event_log.read_stream("gone") == []


async def test_a_group_that_nobody_waits_for_is_given_up(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database
) -> None:
    before = asyncio.all_tasks()
    endless = [write("endless"), InlineWrite(b"select pg_sleep(600)", {})]
    first, *members = [
        asyncio.create_task(append(event_log, f"s-{n}", 0, endless if n else ())) for n in range(3)
    ]
    await first
    backend = await sleeper(database)
    for member in members:
        member.cancel()
    done, _ = await asyncio.wait(members, timeout=60)
    assert all(member.cancelled() for member in done)
    assert asyncio.all_tasks() == before, "the group's task has ended with its last caller"
    async with pool.connection() as connection:
        gone = "select not exists (select from pg_stat_activity where pid = %s)"
        while not (await (await connection.execute(gone, [backend])).fetchall())[0][0]:
            await asyncio.sleep(0.01)
    assert await names_written(pool) == []
    assert not (await append(event_log, "s-1")).duplicate


async def test_a_group_whose_backend_is_terminated_leaves_nothing(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database
) -> None:
    async def terminated(*appends: Coroutine[Any, Any, AppendResult]) -> list[Any]:
        ending = asyncio.gather(*appends, return_exceptions=True)
        await terminate_sleeper(database)
        return await ending

    endless = InlineWrite(b"select pg_sleep(600)", {})
    [alone] = await terminated(append(event_log, "s-0", 0, [write("s-0"), endless]))
    first, *lost = await terminated(
        append(event_log, "first"),
        append(event_log, "s-1", 0, [write("s-1")]),
        append(event_log, "s-2", 0, [write("s-2"), endless]),
        append(event_log, "s-3"),
    )
    assert isinstance(alone, psycopg.OperationalError)
    assert isinstance(first, AppendResult)
    assert [repr(error) for error in lost] == [repr(alone)] * 3
    assert len({id(error) for error in lost}) == 3, "each caller has an error of its own"
    assert [e.stream_id for e in await everything(event_log)] == ["first"]
    assert await names_written(pool) == []
    again = await together(event_log, *(append(event_log, f"s-{n}") for n in (1, 2, 3)))
    assert len(transactions(*again)) == 1


async def test_while_no_connection_is_available_each_caller_is_told_so(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    first, *others = (asyncio.create_task(append(event_log, f"s-{n}")) for n in range(3))
    await asyncio.sleep(0)  # they have begun
    await pool.close()
    ended = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(error) for error in ended[1:]] == [PoolClosed] * 2
