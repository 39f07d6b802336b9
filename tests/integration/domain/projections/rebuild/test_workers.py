"""A rebuild that is shared among processes: the same rows, and nothing left of it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.intent_streams import stream_of
from domain.eventlog.log import EventLog
from domain.operations.projections import rebuild, verify
from domain.projections.following.parked import parked_streams
from domain.projections.rebuild.contract import OnProgress, Progress, RebuildFailed
from domain.projections.rebuild.intents import IntentStatesBuilder
from domain.projections.rebuild.rebuild import Rebuild
from domain.projections.rebuild.workers import FoldingHere, FoldingProcesses
from domain.projections.registry import Projections
from tests.support.intents.histories import Histories, table
from tests.support.postgres import Database

ROWS = b"select * from intent_states order by id"


def workers_of(pid: int) -> list[int]:
    """The processes that fold for the process ``pid``."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in read(task / "children").split()
    ]
    named = (b"rebuild.worker_process", b"rebuild.following_process")
    return [c for c in children if any(name in read(Path(f"/proc/{c}/cmdline")) for name in named)]


def read(path: Path) -> bytes:
    """A file below ``/proc``; nothing of a thread or process that has ended since."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


class Seen:
    """The greatest number of workers that there were at once."""

    workers = 0

    def __call__(self, _progress: Progress) -> None:
        self.workers = max(self.workers, len(workers_of(os.getpid())))


def kill_after(events: int) -> OnProgress:
    """Kills the workers once so many events are processed."""

    def kill(progress: Progress) -> None:
        if progress.events > events:
            for worker in workers_of(os.getpid()):
                os.kill(worker, signal.SIGKILL)

    return kill


async def test_processes_fold_the_rows_that_one_would(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    histories = Histories.over(pool)
    await histories.mixture(20)
    bad = await histories.succeeded()
    before = await table(pool, ROWS)
    [[events]] = await table(pool, b"select count(*) from events")
    async with owner.connection() as connection:
        await connection.execute("alter table events disable trigger events_immutable")
        await connection.execute(
            "update events set data = '{}' where stream_id = %s and version = 4", [stream_of(bad)]
        )
    seen = Seen()
    rebuilt = await rebuild(owner, "intent_states", on_progress=seen, page=37, workers=3).run()
    assert (rebuilt.events, seen.workers) == (events, 3)
    assert workers_of(os.getpid()) == []
    assert await table(pool, ROWS) == before
    [parked] = await parked_streams(pool, "intent_states")
    assert (parked.stream_id, parked.from_version) == (stream_of(bad), 4)
    assert (await verify(pool, "intent_states")).unfoldable == 1


async def test_a_short_rebuild_starts_no_process_and_a_long_one_does(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database
) -> None:
    await Histories.over(pool).mixture(20)
    before = await table(pool, ROWS)
    for alone_until, expected in ((10**6, 0), (60, 2)):
        processes = FoldingProcesses(database.admin_url, "none", 2)
        later = (alone_until, processes)
        builder = IntentStatesBuilder(EventLog(owner), FoldingHere(owner), 20, later)
        seen = Seen()
        await Rebuild(owner, builder, seen).run()
        assert seen.workers == expected
        assert await table(pool, ROWS) == before


async def test_a_killed_worker_ends_the_rebuild_which_goes_on_where_it_was(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await Histories.over(pool).mixture(20)
    before = await table(pool, ROWS)

    with pytest.raises(RebuildFailed, match="ended with -9: run it again"):
        await rebuild(owner, "intent_states", on_progress=kill_after(100), page=20, workers=2).run()
    assert workers_of(os.getpid()) == []
    rebuilt = await rebuild(owner, "intent_states", on_progress=Seen(), workers=2).run()
    assert rebuilt.resumed_from > 100
    assert await table(pool, ROWS) == before
    assert (await verify(pool, "intent_states")).differing == 0


async def test_a_worker_without_the_database_is_an_outage(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database
) -> None:
    await Histories.over(pool).mixture(20)

    others = make_conninfo(database.admin_url, dbname="postgres")
    admit = sql.SQL("alter database {} allow_connections {}")
    name = sql.Identifier(database.name)
    cut = False

    def cut_off(progress: Progress) -> None:
        nonlocal cut
        if progress.events > 100 and not cut:
            with psycopg.connect(others, autocommit=True) as other:
                other.execute(admit.format(name, sql.SQL("false")))
                other.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where application_name = 'qlp-fold' and datname = %s",
                    [database.name],
                )
            cut = True

    with pytest.raises(psycopg.OperationalError):
        await rebuild(owner, "intent_states", on_progress=cut_off, page=10, workers=2).run()
    assert workers_of(os.getpid()) == []
    with psycopg.connect(others, autocommit=True) as other:
        other.execute(admit.format(name, sql.SQL("true")))
    rebuilt = await rebuild(owner, "intent_states", on_progress=Seen(), workers=2).run()
    assert rebuilt.resumed_from > 100


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_workers_end_with_the_command(
    pool: AsyncConnectionPool, database: Database, how: signal.Signals
) -> None:
    await Histories.over(pool).mixture(20)
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "domain.operations", "projections", "rebuild", "intent_states"),
        *("--workers", "2", "--rate", "20", "--yes", "--json"),
        env={**os.environ, "DATABASE_URL": database.url, "DATABASE_ADMIN_URL": database.admin_url},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert command.stdout is not None
    async for line in command.stdout:
        if json.loads(line)["events"] >= 50:
            break
    workers = [os.pidfd_open(pid) for pid in workers_of(command.pid)]
    assert len(workers) == 2
    if how is signal.SIGINT:
        os.killpg(command.pid, how)  # as a terminal does
    else:
        command.kill()
    assert await command.wait() != 0
    for worker in workers:
        ended, _, _ = await asyncio.to_thread(select.select, [worker], [], [], 60)
        os.close(worker)
        assert ended


async def test_processes_hand_over_many_streams_that_cannot_be_folded(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database
) -> None:
    """More than fits into a line."""
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
                command_id, metadata, data)
            select gen_random_uuid(), 'intent-' || gen_random_uuid(), 1, 'IntentSubmitted', 1,
                'acme', gen_random_uuid(), '{}', '{}' from generate_series(1, 9000)"""
        )
    rebuilt = await rebuild(owner, "intent_states", on_progress=Seen(), workers=2).run()
    assert (rebuilt.events, rebuilt.parked) == (9000, 9000)


FOLLOWING = {
    "usage_daily": b"select * from usage_daily order by tenant_id, day",
    "error_patterns": b"select * from error_patterns order by tenant_id, code, cause",
}
MARKS = b"select stream_id, version from usage_daily_streams order by 1"


async def several_parts(pool: AsyncConnectionPool) -> Histories:
    """Streams in so many parts of the log that several processes have some."""
    histories = Histories.over(pool)
    await histories.mixture(30)
    await Projections(pool).run_until_caught_up()
    return histories


@pytest.mark.parametrize("name", FOLLOWING)
async def test_processes_share_a_projection_that_follows_the_log(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, name: str
) -> None:
    histories = await several_parts(pool)
    before, marks = await table(pool, FOLLOWING[name]), await table(pool, MARKS)
    seen = Seen()
    rebuilding = rebuild(owner, name, on_progress=seen, page=10, workers=3)
    rebuilt = await rebuilding.run()
    [[events]] = await table(pool, b"select count(*) from events")
    assert (rebuilt.events, rebuilt.parked) == (events, 0)
    assert 1 <= seen.workers <= 3
    assert workers_of(os.getpid()) == []
    assert await table(pool, FOLLOWING[name]) == before
    assert await table(pool, MARKS) == marks
    assert (await verify(pool, name)).differing == 0
    [[left]] = await table(pool, b"select count(*) from followers where follower like 'rebuild:%'")
    assert left == 0
    await histories.succeeded()  # the live follower goes on from there
    await Projections(pool).run_until_caught_up()
    assert (await verify(pool, name)).differing == 0


async def test_a_shared_rebuild_goes_on_where_its_processes_were(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await several_parts(pool)
    before = await table(pool, FOLLOWING["usage_daily"])

    with pytest.raises(RebuildFailed, match="ended with -9: run it again"):
        await rebuild(owner, "usage_daily", on_progress=kill_after(50), page=5, workers=2).run()
    assert workers_of(os.getpid()) == []
    rebuilt = await rebuild(owner, "usage_daily", on_progress=Seen(), page=5, workers=2).run()
    assert rebuilt.resumed_from > 50
    assert await table(pool, FOLLOWING["usage_daily"]) == before
    # One that is begun anew does not go on from what another one has left.
    with psycopg.connect(str(owner.conninfo)) as connection:
        connection.execute(
            "insert into followers (follower, part) values ('rebuild:usage_daily', 3)"
        )
        connection.execute(
            "update followers set positions = array_fill(9::bigint, array[16]) where part = 3 "
            "and follower = 'rebuild:usage_daily'"
        )
    await rebuild(owner, "usage_daily", on_progress=Seen(), workers=2).run()
    assert await table(pool, FOLLOWING["usage_daily"]) == before


async def test_a_shared_rebuild_ends_beside_writers_and_misses_nothing(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    histories = await several_parts(pool)
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await histories.succeeded()

    writing = asyncio.create_task(write())
    await rebuild(owner, "usage_daily", on_progress=Seen(), page=20, workers=2).run()
    done.set()
    await writing
    await Projections(pool).run_until_caught_up()
    assert (await verify(pool, "usage_daily")).differing == 0


async def test_what_an_earlier_run_has_left_is_waited_for_and_writes_nothing_more(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database
) -> None:
    """A process whose parent was killed, in the middle of a page, and one before its next page."""
    await several_parts(pool)
    before = await table(pool, FOLLOWING["usage_daily"])

    with pytest.raises(RebuildFailed):
        await rebuild(owner, "usage_daily", on_progress=kill_after(50), page=5, workers=2).run()
    with psycopg.connect(database.admin_url) as page:
        [(run,)] = page.execute(
            "select run from projection_rebuilds where projection = 'usage_daily' for key share"
        ).fetchall()
        again = asyncio.create_task(
            rebuild(owner, "usage_daily", on_progress=Seen(), page=5, workers=1).run()
        )
        await asyncio.sleep(0.5)
        assert not again.done()
        page.commit()
        left = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "domain.projections.rebuild.following_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        order = json.dumps([database.admin_url, "none", "usage_daily", str(run), 5]).encode()
        said, _ = await left.communicate(order + b"\n")
        assert (said, left.returncode) == (b"", 0)
    await again
    assert await table(pool, FOLLOWING["usage_daily"]) == before


async def test_a_process_that_stands_still_does_not_stop_the_rebuild(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    await several_parts(pool)
    before = await table(pool, FOLLOWING["usage_daily"])
    stopped: list[int] = []

    def stop_one(_progress: Progress) -> None:
        if not stopped:
            stopped.extend(workers_of(os.getpid())[:1])
            for worker in stopped:
                os.kill(worker, signal.SIGSTOP)

    await rebuild(owner, "usage_daily", on_progress=stop_one, page=5, workers=2).run()
    assert stopped
    assert workers_of(os.getpid()) == []
    assert await table(pool, FOLLOWING["usage_daily"]) == before


@pytest.mark.parametrize("state", ["55P03", "40P01", "25P03", "25P04"])
async def test_a_page_that_gives_way_to_others_is_tried_again(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, database: Database, state: str
) -> None:
    """As when a process that stands still holds a row for longer than one may be waited for."""
    await several_parts(pool)
    before = await table(pool, FOLLOWING["usage_daily"])
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(
            f"""create sequence tries;
            create function give_way() returns trigger language plpgsql as $$
            begin
                if nextval('tries') in (2, 4, 5) then
                    raise exception 'not now' using errcode = '{state}';
                end if;
                return new;
            end
            $$;
            create trigger give_way before update on followers for each row
                when (new.follower = 'rebuild:usage_daily' and new.moved_at <> old.moved_at)
                execute function give_way()""".encode()
        )
    await rebuild(owner, "usage_daily", on_progress=Seen(), page=5, workers=2).run()
    with psycopg.connect(database.admin_url) as admin:
        [(tries,)] = admin.execute("select last_value from tries").fetchall()
    assert tries > 5
    assert await table(pool, FOLLOWING["usage_daily"]) == before


async def test_processes_do_not_share_where_a_rate_is_to_be_kept(
    owner: AsyncConnectionPool,
) -> None:
    with pytest.raises(ValueError, match="workers: with a rate, one process"):
        rebuild(owner, "usage_daily", on_progress=Seen(), workers=2, rate=100)
