"""What a follower of the log can rely on."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, PoolClosed

from domain.database.pool import open_pool
from domain.eventlog.followers import Followers
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, NewEvent, WrongExpectedVersion
from tests.support.postgres import Database, Server, everything

WRITERS = 16
SLOW_COMMIT = b"select pg_sleep(%(seconds)s)"


async def append(log: EventLog, stream_id: str, version: int, seconds: float = 0.0) -> UUID:
    command_id = uuid4()
    event_id = uuid5(command_id, "0")
    inline = [InlineWrite(SLOW_COMMIT, {"seconds": seconds})] if seconds else []
    event = NewEvent(event_id, "Happened", 1, {})
    await log.append(stream_id, "acme", version, command_id, [event], {}, inline)
    return event_id


async def naive_follow(pool: AsyncConnectionPool, done: asyncio.Event) -> set[UUID]:
    """The reader everybody writes first: ``where recorded_at > last``."""
    seen: set[UUID] = set()
    last = datetime.min.replace(tzinfo=UTC)
    async with pool.connection() as connection:
        while True:
            final = done.is_set()
            rows = await connection.execute(
                "select recorded_at, event_id from events where recorded_at > %s order by 1",
                [last],
            )
            for recorded_at, event_id in await rows.fetchall():
                last = recorded_at
                seen.add(event_id)
            if final:
                return seen


async def follow(log: EventLog, expected: int) -> list[UUID]:
    """What a follower reads until it has ``expected`` events or has waited too long for them."""
    seen: list[UUID] = []
    heads = Heads.start()
    deadline = time.monotonic() + 90
    while len(seen) < expected and time.monotonic() < deadline:
        page, heads = await log.read_all(heads, 100)
        seen += [event.event_id for event in page]
    return seen


async def test_a_follower_misses_nothing_of_concurrent_writers_where_reading_by_time_does(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    done = asyncio.Event()
    each = 20

    async def write(writer: int) -> list[UUID]:
        # Every writer holds its transaction open for a different moment after it recorded its
        # event, so commits come in another order than times.
        return [
            await append(event_log, f"s-{writer}-{n}", 0, (writer % 4) * 0.004) for n in range(each)
        ]

    safe = asyncio.create_task(follow(event_log, WRITERS * each))
    naive = asyncio.create_task(naive_follow(pool, done))
    written = {
        event_id
        for ids in await asyncio.gather(*(write(number) for number in range(WRITERS)))
        for event_id in ids
    }
    done.set()

    followed = await safe
    assert len(followed) == len(written) == WRITERS * each
    assert set(followed) == written
    lost = written - await naive
    assert lost, "reading by time lost nothing: this test does not show what it should"


async def test_events_of_a_stream_are_followed_in_order_under_concurrent_writers(
    event_log: EventLog,
) -> None:
    async def write_to_one_stream(count: int) -> None:
        for _ in range(count):
            while True:
                version = len(await event_log.read_stream("s"))
                try:
                    await append(event_log, "s", version)
                    break
                except WrongExpectedVersion:
                    continue

    done = asyncio.Event()
    order: list[int] = []

    async def watch() -> None:
        heads = Heads.start()
        while not (done.is_set() and len(order) == 60):
            page, heads = await event_log.read_all(heads, 7)
            order.extend(event.version for event in page)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(write_to_one_stream(10) for _ in range(6)))
    done.set()
    await asyncio.wait_for(watching, 60)
    assert order == list(range(1, 61))


async def test_a_write_transaction_that_is_held_open_delays_nothing(
    event_log: EventLog, database: Database, postgres_server: Server
) -> None:
    """Whatever else is written in any database of the server, and for however long."""
    async with (
        await psycopg.AsyncConnection.connect(database.admin_url) as here,
        await psycopg.AsyncConnection.connect(postgres_server.admin_url("postgres")) as elsewhere,
    ):
        for foreign in (here, elsewhere):
            await foreign.execute("create temporary table held (n int)")
            await foreign.execute("select pg_current_xact_id()")
        await append(event_log, "s-1", 0)
        assert [e.stream_id for e in await everything(event_log)] == ["s-1"]
        async with Followers(event_log._pool).next_page("relay") as page:
            assert page is not None
            assert [e.stream_id for e in page.events] == ["s-1"]
        assert (await Followers(event_log._pool).lag("relay")).events == 1


async def test_pages_of_any_size_give_every_event_once_and_in_order(event_log: EventLog) -> None:
    for number in range(13):
        await append(event_log, f"s-{number % 5}", number // 5)
    for size in (1, 2, 5, 13, 1000):
        seen = []
        heads = Heads.start()
        while not heads.reaches(await event_log.heads()):
            page, heads = await event_log.read_all(heads, size)
            assert 0 < len(page) <= size
            seen += page
        followed = [e async for page in event_log.follow(Heads.start(), limit=size) for e in page]
        for events in (seen, followed):
            assert len({event.event_id for event in events}) == len(events) == 13
            for stream in {event.stream_id for event in events}:
                versions = [e.version for e in events if e.stream_id == stream]
                assert versions == [*range(1, len(versions) + 1)]


async def test_a_follower_that_leaves_or_fails_in_a_page_gives_its_connection_back(
    database: Database,
) -> None:
    pool = await open_pool(database.url, min_size=1, max_size=1, application_name="test")
    log = EventLog(pool)
    for number in range(6):
        await append(log, f"s-{number}", 0)

    async def fail() -> None:
        async with aclosing(log.follow(Heads.start(), limit=2)) as pages:
            async for _ in pages:
                raise ValueError("no more")

    async with aclosing(log.follow(Heads.start(), limit=2)) as pages:
        first = await anext(pages)
    with pytest.raises(ValueError, match="no more"):
        await fail()
    assert (await log.read_all(Heads.start(), 2))[0] == first
    assert pool.get_stats()["pool_available"] == 1
    await pool.close()


async def test_a_follower_is_told_that_the_database_went_away(
    database: Database, pool: AsyncConnectionPool
) -> None:
    log = EventLog(pool)
    for number in range(8):
        await append(log, f"s-{number}", 0)
    pages = log.follow(Heads.start(), limit=2)
    assert len(await anext(pages)) == 2
    await pool.close()  # the page that was asked for ahead is lost with its connection
    with pytest.raises((psycopg.OperationalError, PoolClosed)):
        [page async for page in pages]
