"""The log across crashes, restarts and restores of its server."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import open_pool
from domain.eventlog.followers import Followers
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, NewEvent
from domain.operations.log_integrity import LogVerifier
from infra.local.postgres.server import EmbeddedPostgres
from tests.support.postgres import (
    Servers,
    copy_into_new_cluster,
    everything,
    old_and_new_cluster,
    started,
    which_is_ahead,
)

#: An append with this beside it does not end before its server does.
UNFINISHED = [InlineWrite(b"select pg_sleep(600)", {})]


async def append(
    log: EventLog, stream_id: str, version: int = 0, inline: Sequence[InlineWrite] = ()
) -> None:
    events = [NewEvent(uuid4(), "Happened", 1, {})]
    await log.append(stream_id, "acme", version, uuid4(), events, {}, inline)


async def wait_for_sleeper(server: EmbeddedPostgres) -> None:
    query = "select from pg_stat_activity where wait_event = 'PgSleep'"
    async with await psycopg.AsyncConnection.connect(
        server.admin_url_for("qlp"), autocommit=True
    ) as admin:
        while not await (await admin.execute(query)).fetchall():
            await asyncio.sleep(0.01)


async def connect(server: EmbeddedPostgres) -> AsyncConnectionPool:
    return await open_pool(server.app_url("qlp"), min_size=2, max_size=8, application_name="tests")


async def test_a_killed_server_loses_no_acknowledged_event_and_the_pool_recovers(
    servers: Servers,
) -> None:
    server = await started(servers)
    pool = await connect(server)
    log = EventLog(pool)
    acknowledged: set[str] = set()
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                await append(log, stream := f"s-{writer}-{number}")
                acknowledged.add(stream)
            except psycopg.OperationalError:
                await asyncio.sleep(0.05)

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    for number in range(2):
        before = len(acknowledged)
        while len(acknowledged) < before + 50:
            await asyncio.sleep(0.01)
        in_flight = asyncio.create_task(append(log, f"unfinished-{number}", inline=UNFINISHED))
        await wait_for_sleeper(server)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        with pytest.raises(psycopg.OperationalError):
            await in_flight
    before = len(acknowledged)
    while len(acknowledged) < before + 50:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*writers)

    streams = {event.stream_id for event in await everything(log)}
    assert acknowledged <= streams
    assert not [stream for stream in streams if stream.startswith("unfinished")]
    await pool.close()


async def test_idle_connections_that_a_restart_closed_are_replaced_unnoticed(
    servers: Servers,
) -> None:
    server = await started(servers)
    pool = await connect(server)
    log = EventLog(pool)
    await append(log, "s-1")
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    for version in range(1, 6):
        await append(log, "s-1", version)
    await pool.close()


@which_is_ahead
async def test_followers_of_a_restored_log_neither_stall_nor_skip_nor_repeat(
    servers: Servers, ahead: str
) -> None:
    old, new = await old_and_new_cluster(servers, ahead)

    pool = await connect(old)
    log = EventLog(pool)
    for number in range(3):
        await append(log, f"s-{number}")
    async with Followers(pool).next_page("follower") as page:
        assert page is not None
        page.save()
    read = {event.stream_id for event in page.events}
    for number in range(3, 5):
        await append(log, f"s-{number}")
    await pool.close()
    copy_into_new_cluster(old, new)

    pool = await connect(new)
    log, followers = EventLog(pool), Followers(pool)
    await append(log, "s-0", 1)
    await append(log, "s-5")
    rest = await processed(followers, pool)
    assert read | {stream for stream, _ in rest} == {f"s-{number}" for number in range(6)}
    assert len(rest) == 7 - len(read)
    assert await followers.heads("follower") == await log.heads()
    assert len(await everything(log)) == 7
    await pool.close()


async def processed(followers: Followers, pool: AsyncConnectionPool) -> list[tuple[str, int]]:
    """Streams and versions of what the follower has left to process."""
    done: list[tuple[str, int]] = []
    while True:
        async with followers.next_page("follower") as page:
            if page is None:
                return done
            done += [(event.stream_id, event.version) for event in page.events]
            page.save()


async def test_a_log_that_is_first_appended_to_after_its_restore_keeps_its_order(
    servers: Servers,
) -> None:
    old, new = await old_and_new_cluster(servers, "old")
    pool = await connect(old)
    for number in range(3):
        await append(EventLog(pool), f"s-{number}")
    await pool.close()
    copy_into_new_cluster(old, new)

    pool = await connect(new)
    log = EventLog(pool)
    await asyncio.gather(*(append(log, f"t-{number}") for number in range(8)))
    streams = [event.stream_id for event in await everything(log)]
    assert streams[:3] == ["s-0", "s-1", "s-2"]
    assert sorted(streams[3:]) == [f"t-{number}" for number in range(8)]
    await pool.close()


async def test_a_physical_copy_goes_on_where_it_was_taken(servers: Servers, tmp_path: Path) -> None:
    """Whatever the first server does afterwards, each of the two has a log that is whole."""
    origin = await started(servers)
    pool = await connect(origin)
    for number in range(5):
        await append(EventLog(pool), f"s-{number}")
    async with Followers(pool).next_page("follower") as page:
        assert page is not None
        page.save()
    read = len(page.events)
    await pool.close()
    await asyncio.to_thread(origin.stop)
    copy = servers.start()
    await asyncio.to_thread(copy.stop)
    shutil.rmtree(copy.data_dir)
    shutil.copytree(origin.data_dir, copy.data_dir)
    [credentials] = origin.data_dir.parent.glob("*credentials*")
    shutil.copy(credentials, copy.data_dir.parent)
    for source in (origin.data_dir, *origin.data_dir.rglob("*")):
        target = copy.data_dir / source.relative_to(origin.data_dir)
        os.chown(target, source.stat().st_uid, source.stat().st_gid)
    for server in (origin, copy):
        await asyncio.to_thread(server.start)
        pool = await connect(server)
        for number in range(5):
            await append(EventLog(pool), f"s-{number}", 1)
        assert len(await processed(Followers(pool), pool)) == 10 - read
        found = await LogVerifier(pool).verify()
        assert (found.unsealed, found.findings) == (10, [])
        await pool.close()
