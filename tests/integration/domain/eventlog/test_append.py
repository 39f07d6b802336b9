"""What an append promises."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4, uuid5

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.eventlog.models import (
    AppendResult,
    EventIdTaken,
    InlineWrite,
    InvalidEvent,
    NewEvent,
    StreamOfAnotherTenant,
    WrongExpectedVersion,
)
from tests.support.postgres import Database, everything

WRITE = b"insert into followers (follower, part) values (%(name)s, 0)"


def events_of(command_id: UUID, count: int = 1) -> list[NewEvent]:
    return [
        NewEvent(uuid5(command_id, str(index)), "Happened", 1, {"index": index})
        for index in range(count)
    ]


async def append(
    log: EventLog,
    stream_id: str,
    expected: int,
    command_id: UUID | None = None,
    count: int = 1,
    inline: list[InlineWrite] | None = None,
) -> AppendResult:
    command_id = command_id or uuid4()
    return await log.append(
        stream_id,
        "acme",
        expected,
        command_id,
        events_of(command_id, count),
        {"n": 1},
        inline or (),
    )


async def names_written(pool: AsyncConnectionPool) -> list[str]:
    async with pool.connection() as connection:
        rows = await connection.execute("select follower from followers order by follower")
        return [name for (name,) in await rows.fetchall()]


async def test_reading_gives_back_exactly_what_the_append_returned(event_log: EventLog) -> None:
    data = {"text": "naïve – \u0000 \U0001f600 \\u0000", "n": 2**63 - 1, "f": 0.1, "none": None}
    command_id = uuid4()
    event = NewEvent(uuid5(command_id, "0"), "Said", 3, data)
    result = await event_log.append("s-1", "acme", 0, command_id, [event], {"traceparent": "t"})

    [read] = await event_log.read_stream("s-1")
    assert result.events == [read]
    assert read.data == data
    assert (read.version, read.type, read.schema_version) == (1, "Said", 3)
    assert (read.tenant_id, read.command_id) == ("acme", command_id)
    assert read.metadata == {"traceparent": "t"}
    assert read.recorded_at.tzinfo is not None
    assert await everything(event_log) == [read]


async def test_events_of_one_command_get_consecutive_versions(
    event_log: EventLog,
) -> None:
    await append(event_log, "s-1", 0, count=2)
    recorded = (await append(event_log, "s-1", 2, count=50)).events
    assert [event.version for event in recorded] == list(range(3, 53))
    assert [event.data["index"] for event in recorded] == list(range(50))
    assert await event_log.read_stream("s-1", after_version=2) == recorded


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_a_writer_with_the_wrong_version_is_told_the_right_one(
    event_log: EventLog, expected: int
) -> None:
    await append(event_log, "s-1", 0, count=2)
    with pytest.raises(WrongExpectedVersion) as caught:
        await append(event_log, "s-1", expected)
    assert (caught.value.expected, caught.value.actual) == (expected, 2)
    assert len(await event_log.read_stream("s-1")) == 2


async def test_of_many_writers_at_one_version_exactly_one_wins(event_log: EventLog) -> None:
    results = await asyncio.gather(
        *(append(event_log, "s-1", 0) for _ in range(16)), return_exceptions=True
    )
    assert sum(isinstance(result, AppendResult) for result in results) == 1
    assert sum(isinstance(result, WrongExpectedVersion) for result in results) == 15
    assert len(await event_log.read_stream("s-1")) == 1


async def test_a_repeated_command_returns_its_first_outcome_and_writes_nothing(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    command_id = uuid4()
    first = await append(event_log, "s-1", 0, command_id, 2, [InlineWrite(WRITE, {"name": "a"})])
    await append(event_log, "s-1", 2)
    for expected in (0, 2, 3):
        again = await append(
            event_log, "s-1", expected, command_id, 1, [InlineWrite(WRITE, {"name": "b"})]
        )
        assert again.duplicate
        assert again.events == first.events
    assert await names_written(pool) == ["a"]
    assert len(await event_log.read_stream("s-1")) == 3


async def test_a_command_raced_by_16_connections_is_recorded_once(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    for round_ in range(10):
        command_id, stream = uuid4(), f"s-{round_}"
        results = await asyncio.gather(
            *(
                append(
                    event_log,
                    stream,
                    0,
                    command_id,
                    2,
                    [InlineWrite(WRITE, {"name": f"{round_}-{writer}"})],
                )
                for writer in range(16)
            )
        )
        assert sum(not result.duplicate for result in results) == 1
        assert all(result.events == results[0].events for result in results)
    assert len(await names_written(pool)) == 10


async def test_a_failing_inline_write_takes_the_events_and_the_writes_before_it_along(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    good, bad = InlineWrite(WRITE, {"name": "a"}), InlineWrite(WRITE, {"name": ""})
    for inline in ([bad], [good, bad], [good, bad, good]):
        with pytest.raises(psycopg.errors.CheckViolation):
            await append(event_log, "s-1", 0, inline=inline)
        assert await event_log.read_stream("s-1") == []
        assert await names_written(pool) == []
    assert not (await append(event_log, "s-1", 0, inline=[good])).duplicate


async def test_an_inline_write_that_cannot_be_sent_undoes_the_append(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    unsendable = InlineWrite(WRITE, {"name": "a\x00"})
    with pytest.raises(psycopg.DataError, match="NUL"):
        await append(event_log, "s-1", 0, inline=[unsendable])
    assert await event_log.read_stream("s-1") == []
    good = InlineWrite(WRITE, {"name": "a"})
    assert not (await append(event_log, "s-1", 0, inline=[good])).duplicate


async def test_inline_writes_of_a_refused_append_are_not_made(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    with pytest.raises(WrongExpectedVersion):
        await append(event_log, "s-1", 7, inline=[InlineWrite(WRITE, {"name": "a"})])
    assert await names_written(pool) == []


async def test_a_cancelled_append_leaves_all_or_nothing_and_a_working_pool(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    for number in range(40):
        write = InlineWrite(WRITE, {"name": f"s-{number}"})
        task = asyncio.create_task(append(event_log, f"s-{number}", 0, inline=[write]))
        await asyncio.sleep(number / 20_000)
        task.cancel()
        await asyncio.wait({task})
    async with pool.connection() as connection:  # one snapshot: the server may still be committing
        differing = await connection.execute(
            """select stream_id, follower from events full join followers on follower = stream_id
            where stream_id is null or follower is null"""
        )
        assert await differing.fetchall() == []
    assert (await append(event_log, "afterwards", 0)).events


async def test_a_stream_belongs_to_one_tenant(event_log: EventLog) -> None:
    await append(event_log, "s-1", 0)
    command_id = uuid4()
    with pytest.raises(StreamOfAnotherTenant):
        await event_log.append("s-1", "other", 1, command_id, events_of(command_id), {})


async def test_an_event_id_is_unique_in_the_whole_log(event_log: EventLog) -> None:
    command_id = uuid4()
    await append(event_log, "s-1", 0, command_id)
    with pytest.raises(EventIdTaken):
        await event_log.append("s-2", "acme", 0, uuid4(), events_of(command_id), {})


@pytest.mark.parametrize(
    ("events", "field"),
    [
        ([], "events"),
        ([NewEvent(uuid4(), "T", 1, {"a": "\ud800"})], "data of T"),
        ([NewEvent(uuid4(), "T", 1, {"a": 2**64})], "data of T"),
        ([NewEvent(uuid4(), "T", 1, {"a": "x" * 1024**2})], "data of T"),
        ([NewEvent(uuid4(), "T", 1, b"\xff")], "data of T"),
        ([NewEvent(uuid4(), "", 1, {})], "type"),
        ([NewEvent(uuid4(), "T" * 121, 1, {})], "type"),
        ([NewEvent(uuid4(), "T", 0, {})], "schema_version"),
        ([NewEvent(uuid4(), "T", 2**15, {})], "schema_version"),
    ],
)
async def test_what_cannot_be_recorded_is_refused_by_name(
    event_log: EventLog, events: list[NewEvent], field: str
) -> None:
    with pytest.raises(InvalidEvent, match=field):
        await event_log.append("s-1", "acme", 0, uuid4(), events, {})


@pytest.mark.parametrize("stream_id", ["", "s" * 201, "s\x00"])
async def test_a_stream_id_out_of_bounds_is_refused_by_name(
    event_log: EventLog, stream_id: str
) -> None:
    with pytest.raises(InvalidEvent, match="stream_id"):
        await append(event_log, stream_id, 0)


async def test_bytes_that_are_not_json_are_refused_by_the_database(event_log: EventLog) -> None:
    event = NewEvent(uuid4(), "T", 1, b"{")
    with pytest.raises(InvalidEvent, match="JSON"):
        await event_log.append("s-1", "acme", 0, uuid4(), [event], {})


async def test_a_transaction_that_wrote_before_appends_behind_later_events(
    event_log: EventLog, database: Database
) -> None:
    """Version 2 must never be readable before version 1, whichever transaction is older."""
    call = """select append_many(%(stream)s, 'acme', %(expected)s, %(id)s, '{}', array[%(id)s],
        array['T'], array[1]::smallint[], array['{}'])"""
    async with await psycopg.AsyncConnection.connect(database.admin_url) as early:
        await early.execute("select pg_current_xact_id()")
        await append(event_log, "s-1", 0)
        await early.execute(call, {"stream": "s-1", "expected": 1, "id": uuid4()})
        seen = (await event_log.read_all(Heads.start()))[0]
    assert [event.version for event in seen] == [1]
    await append(event_log, "s-1", 2)
    events, _ = await event_log.read_all(Heads.start())
    assert [event.version for event in events] == [1, 2, 3]


async def test_limits_of_pages_are_checked(event_log: EventLog) -> None:
    with pytest.raises(ValueError, match="limit"):
        await event_log.read_all(Heads.start(), 0)
    with pytest.raises(ValueError, match="limit"):
        await event_log.read_stream("s", 0, 1_000_000)


async def test_streams_are_listed_in_pages_and_by_tenant(event_log: EventLog) -> None:
    for number in range(5):
        await append(event_log, f"s-{number}", 0, count=number + 1)
    command_id = uuid4()
    await event_log.append("s-9", "other", 0, command_id, events_of(command_id), {})
    first = await event_log.streams(limit=4)
    rest = await event_log.streams(limit=4, cursor=first[-1].stream_id)
    assert [(s.stream_id, s.version) for s in first + rest] == [
        *((f"s-{number}", number + 1) for number in range(5)),
        ("s-9", 1),
    ]
    assert [s.stream_id for s in await event_log.streams("other")] == ["s-9"]
