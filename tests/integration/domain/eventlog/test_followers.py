"""Followers of the log in several processes: who processes what, and what a crash leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog import followers as module
from domain.eventlog.followers import ALL, MOST_PARTS, PARTS, Followers, Page, part_of
from domain.eventlog.heads import Heads
from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from tests.support import ROOT
from tests.support.postgres import Database

NAME = "counter"


async def append(log: EventLog, stream_id: str, events: int = 1) -> None:
    version = len(await log.read_stream(stream_id, limit=10_000))
    new = [NewEvent(uuid4(), "Happened", 1, {}) for _ in range(events)]
    await log.append(stream_id, "acme", version, uuid4(), new, {})


def streams_of_parts(count: int) -> list[str]:
    """A stream of each of ``count`` parts."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < count:
        found.setdefault(part_of(f"s-{number}"), f"s-{number}")
        number += 1
    return [*found.values()]


async def process(
    pool: AsyncConnectionPool, most_events: int = 1000, parts: Collection[int] = ALL
) -> list[tuple[str, int]]:
    """Stream and version of all events that the follower has left to process."""
    followers, done = Followers(pool), list[tuple[str, int]]()
    while True:
        async with followers.next_page(NAME, parts, most_events) as page:
            if page is None:
                return done
            assert len(page.events) <= most_events
            done += [(event.stream_id, event.version) for event in page.events]
            page.save()


async def test_a_follower_gets_each_event_once_and_those_of_a_stream_in_order(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    for number in range(30):
        await append(event_log, f"s-{number}", 3)
    assert sorted(await process(pool, 7)) == [
        (stream, version) for stream in sorted(f"s-{n}" for n in range(30)) for version in (1, 2, 3)
    ]
    assert await process(pool) == []
    await append(event_log, "s-7", 2)
    assert await process(pool) == [("s-7", 4), ("s-7", 5)]
    assert await Followers(pool).heads(NAME) == await event_log.heads()
    assert await Followers(pool).heads("another") == Heads.start()


async def test_processes_share_the_parts_and_none_gets_what_another_one_has(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    streams = streams_of_parts(PARTS)
    for stream in streams:
        await append(event_log, stream)
    seen: list[str] = []
    async with AsyncExitStack() as open_pages:
        for _ in range(PARTS // MOST_PARTS):
            page = await open_pages.enter_async_context(Followers(pool).next_page(NAME))
            assert page is not None
            assert len(page.events) == MOST_PARTS
            seen += [event.stream_id for event in page.events]
        assert await open_pages.enter_async_context(Followers(pool).next_page(NAME)) is None
    assert sorted(seen) == sorted(streams)
    # Nothing was saved: all of it comes again.
    assert len(await process(pool)) == PARTS


async def test_a_long_lane_does_not_keep_others_waiting(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    [long] = streams_of_parts(1)
    for _ in range(8):
        await append(event_log, long, 500)
    others = [f"t-{number}" for number in range(200) if part_of(f"t-{number}") == part_of(long)]
    others = [stream for stream in others if lane_of(stream) != lane_of(long)]
    for stream in others:
        await append(event_log, stream)
    followers, waited, pages = Followers(pool), {*others}, 0
    while waited:
        async with followers.next_page(NAME, most_events=100) as page:
            assert page is not None
            waited -= {event.stream_id for event in page.events}
            pages += 1
            page.save()
    assert pages < 30  # of eighty that the long one takes; two are to be expected


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_who_fails_gives_its_parts_back_at_once_and_has_written_nothing(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    counted: Database,
    error: type[BaseException],
) -> None:
    await append(event_log, "s")

    async def fail() -> None:
        async with Followers(pool).next_page(NAME) as page:
            assert page is not None
            await count(page)
            page.save()
            raise error

    with pytest.raises(error):
        await fail()
    assert counts(counted) == []
    assert await process(pool) == [("s", 1)]


async def test_a_page_that_is_not_saved_comes_again(
    event_log: EventLog, pool: AsyncConnectionPool, counted: Database
) -> None:
    await append(event_log, "s")
    async with Followers(pool).next_page(NAME) as page:
        assert page is not None
        await count(page)
    assert counts(counted) == []
    assert await process(pool) == [("s", 1)]


@pytest.fixture
def held_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that is silent for longer loses its parts."""
    monkeypatch.setattr(module, "HELD_SECONDS", 1.0)


async def test_who_works_for_long_keeps_its_parts(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    counted: Database,
    held_for_a_second: None,
) -> None:
    await append(event_log, "s")
    async with Followers(pool).next_page(NAME) as page:
        assert page is not None
        async with page.kept():
            end = time.monotonic() + 3
            while time.monotonic() < end:
                assert await process(pool) == []
        await count(page)
        page.save()
    assert await process(pool) == []
    assert counts(counted) == [("s", 1)]


async def test_who_was_silent_for_too_long_has_written_nothing(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    counted: Database,
    held_for_a_second: None,
) -> None:
    """Also where another one has taken only some of the parts."""
    first, second = streams_of_parts(2)
    await append(event_log, first)
    await append(event_log, second)

    async def stand_still() -> None:
        async with Followers(pool).next_page(NAME) as page:
            assert page is not None
            assert len(page.events) == 2
            await count(page)
            while not await process(pool, parts=(part_of(second),)):
                await asyncio.sleep(0.1)
            page.save()

    with pytest.raises(psycopg.Error):
        await stand_still()
    assert counts(counted) == []
    assert await process(pool) == [(first, 1)]


async def count(page: Page) -> None:
    """The effect of a page in these tests: a row for each event."""
    for event in page.events:
        await page.connection.execute(
            "insert into counted values (%s, %s)", [event.stream_id, event.version]
        )


async def test_lag_names_the_lanes_and_counts_exactly(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    followers = Followers(pool)
    for follower in (NAME, "never begun"):
        assert (await followers.lag(follower)).events == 0
        assert (await followers.lag(follower)).oldest is None
    first, second = streams_of_parts(2)
    await append(event_log, first, 3)
    await process(pool)
    await append(event_log, second, 4)
    await append(event_log, first, 2)
    lag = await followers.lag(NAME)
    assert lag.events == 6
    assert 0 < lag.seconds < 60
    assert lag.oldest == lane_of(second)
    assert {lane: behind.events for lane, behind in lag.lanes.items()} == {
        lane_of(first): 2,
        lane_of(second): 4,
    }
    assert (await followers.lag("never begun")).events == 9


#: Processes pages in a transaction each, with a row for each event, until it is killed. Says so in
#: a line when it holds a page, and goes on when it is sent one.
_WORKER = """
import asyncio, sys
import psycopg
from domain.database.pool import open_pool
from domain.eventlog.followers import Followers

async def step(followers, stepwise):
    async with followers.next_page("counter", most_events=50) as page:
        if page is None:
            return False
        if stepwise:
            print("holds", flush=True)
            async with page.kept():
                await asyncio.to_thread(sys.stdin.readline)
        for event in page.events:
            await page.connection.execute(
                "insert into counted values (%s, %s)", [event.stream_id, event.version])
        page.save()
    print("saved", flush=True)
    return True

async def main(url, stepwise):
    pool = await open_pool(url, min_size=1, max_size=3, application_name="worker")
    followers = Followers(pool)
    while True:
        try:
            if not await step(followers, stepwise):
                await asyncio.sleep(0.02)
        except psycopg.Error:
            print("lost", flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2] == "stepwise"))
"""


@contextmanager
def worker(database: Database, how: str = "stepwise") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, database.url, how],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def counted(database: Database) -> Database:
    """The database with a table in which each event may be counted once."""
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(
            """create table counted (stream_id text, n int, at bigint generated always as identity);
            grant select, insert on counted to public"""
        )
    return database


def lines(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def counts(database: Database) -> list[tuple[str, int]]:
    with psycopg.connect(database.admin_url) as admin:
        return admin.execute("select stream_id, n from counted order by at").fetchall()


async def test_a_holder_that_is_stopped_and_comes_back_writes_nothing(
    event_log: EventLog, pool: AsyncConnectionPool, counted: Database
) -> None:
    await append(event_log, "s", 3)
    with worker(counted) as first:
        assert await asyncio.to_thread(lines, first) == "holds"
        first.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with worker(counted) as second:
            assert await asyncio.to_thread(lines, second) == "holds"
            assert time.monotonic() - began < module.HELD_SECONDS + 10
            go_on(second)
            assert await asyncio.to_thread(lines, second) == "saved"
            first.send_signal(signal.SIGCONT)
            go_on(first)
            assert await asyncio.to_thread(lines, first) == "lost"
    assert counts(counted) == [("s", 1), ("s", 2), ("s", 3)]


async def test_what_a_process_holds_that_stops_while_it_is_sent_much_is_taken_over(
    event_log: EventLog, pool: AsyncConnectionPool
) -> None:
    """The server waits for the network then, where no limit of its own ends a session."""
    await append(event_log, "s", 3)
    async with Followers(pool).next_page(NAME):
        pass  # the rows are there now
    stopped = await pool.getconn()
    try:
        stopped.pgconn.send_query(
            b"begin; select part from followers for update; select repeat('x', 100000000)"
        )
        await held(pool)
        began = time.monotonic()
        while not (done := await process(pool)):
            assert time.monotonic() - began < module.HELD_SECONDS + 10
            await asyncio.sleep(0.1)
    finally:
        await stopped.close()
        await pool.putconn(stopped)
    assert done == [("s", 1), ("s", 2), ("s", 3)]


async def held(pool: AsyncConnectionPool) -> None:
    """Wait until somebody holds the parts with events."""
    async with asyncio.timeout(20):
        while True:
            async with Followers(pool).next_page(NAME) as page:
                if page is None:
                    return


async def test_rows_that_somebody_has_removed_are_made_again(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    followers = Followers(pool)

    async def processed() -> int:
        async with followers.next_page(NAME) as page:
            if page is not None:
                page.save()
            return len(page.events) if page is not None else 0

    await append(event_log, "s", 1)
    assert await processed() == 1
    assert await processed() == 0
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("delete from followers")
    monkeypatch.setattr(module, "_BEGUN_SECONDS", 0.0)
    assert await processed() == 1


async def test_what_a_killed_process_held_is_taken_over_within_seconds(
    event_log: EventLog, pool: AsyncConnectionPool, counted: Database
) -> None:
    await append(event_log, "s", 3)
    with worker(counted) as first:
        assert await asyncio.to_thread(lines, first) == "holds"
        first.kill()
        began = time.monotonic()
        while not (done := await process(pool)):
            assert time.monotonic() - began < module.HELD_SECONDS + 5
            await asyncio.sleep(0.1)
    assert done == [("s", 1), ("s", 2), ("s", 3)]


async def test_beside_writers_and_killed_processes_each_event_has_one_effect_in_order(
    event_log: EventLog, pool: AsyncConnectionPool, counted: Database
) -> None:
    """Sixteen writers, three followers, one of which is killed every half second.

    QLP_TEST_EVENTS sets how many events are written, 4,000 by default.
    """
    total = int(os.environ.get("QLP_TEST_EVENTS", "4000"))

    async def write(writer: int) -> None:
        for _ in range(total // 16 // 5):
            stream = f"w-{writer}-{uuid4()}"
            for version in range(5):
                await append_at(event_log, stream, version)

    with ExitStack() as running:
        workers = [running.enter_context(worker(counted, "freely")) for _ in range(3)]
        writing = [asyncio.create_task(write(number)) for number in range(16)]
        killed = 0
        while not all(task.done() for task in writing):
            await asyncio.sleep(0.5)
            workers.pop(0).kill()
            workers.append(running.enter_context(worker(counted, "freely")))
            killed += 1
        await asyncio.gather(*writing)
        deadline = time.monotonic() + 60
        while (await Followers(pool).lag(NAME)).events:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    assert killed > 1
    seen: dict[str, list[int]] = {}
    for stream, version in counts(counted):
        seen.setdefault(stream, []).append(version)
    assert sum(map(len, seen.values())) == total // 16 // 5 * 5 * 16
    assert all(versions == [1, 2, 3, 4, 5] for versions in seen.values())


async def append_at(log: EventLog, stream_id: str, version: int) -> None:
    event = NewEvent(uuid4(), "Happened", 1, {})
    await log.append(stream_id, "acme", version, uuid4(), [event], {})
