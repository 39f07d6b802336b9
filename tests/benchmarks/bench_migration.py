"""How long a log of before lanes takes to get them, and how long writers wait meanwhile.

One writer appends all the time, one event after the other, before, during and after the migration.

    python -m tests.benchmarks.bench_migration [--events 200000]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from domain.database import migrate as migrating
from domain.database.migrate import load_migrations, migrate
from domain.database.pool import open_pool
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from tests.benchmarks.bench_append import PAYLOAD
from tests.benchmarks.server import own_server
from tests.benchmarks.statistics_of import percentile

BEFORE = 13
FILL = """
    insert into events (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
        metadata, data)
    select gen_random_uuid(), 'intent-' || md5((g / 5)::text)::uuid, g %% 5 + 1, 'Happened', 1,
        'tenant', gen_random_uuid(), '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c"}',
        json_build_object('at', now(), 'text', repeat('x', 180 + g %% 5 * 40))
    from generate_series(%(first)s::int, %(last)s::int) g
"""
OLD_APPEND = """select append_event(%s, 'tenant', 0, gen_random_uuid(), '{}', gen_random_uuid(),
    'Happened', 1::smallint, %s::jsonb::text)"""
SIZE = "select pg_total_relation_size('events'), pg_relation_size('events')"


def _filled(url: str, events: int) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        for first in range(0, events, 1000):
            owner.execute(FILL, {"first": first, "last": min(first + 1000, events) - 1})
        owner.execute("vacuum analyze events")


def _size(url: str) -> str:
    with psycopg.connect(url) as owner:
        [(whole, table)] = owner.execute(SIZE).fetchall()
    return f"{whole / 1e6:,.0f} MB with indexes, {table / 1e6:,.0f} MB without"


@asynccontextmanager
async def _writing(
    pool: AsyncConnectionPool, *, before_it: bool
) -> AsyncIterator[Callable[[], list[float]]]:
    """Appends one event after the other; the function gives the times since it was last called.

    Args:
        pool: connections.
        before_it: as the release before does.
    """
    log = EventLog(pool)
    times: list[float] = []

    async def write() -> None:
        while True:
            started = time.perf_counter()
            if before_it:
                async with pool.connection() as connection:
                    await connection.execute(OLD_APPEND, [str(uuid4()), Jsonb(PAYLOAD)])
            else:
                event = NewEvent(uuid4(), "Happened", 1, PAYLOAD)
                await log.append(str(uuid4()), "tenant", 0, uuid4(), [event], {})
            times.append(time.perf_counter() - started)

    def taken() -> list[float]:
        taken, times[:] = times[:], []
        return taken

    writer = asyncio.create_task(write())
    try:
        yield taken
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer


def _say(what: str, seconds: float, waits: list[float]) -> None:
    print(
        f"{what}: {seconds:.1f} s; {len(waits)} appends meanwhile: median "
        f"{median(waits) * 1e3:.1f} ms, p99 {percentile(waits, 99) * 1e3:.1f}, longest "
        f"{max(waits) * 1e3:.0f}",
        flush=True,
    )


async def _measure(url: str, events: int, old: Path) -> None:
    await migrate(url, old)
    _filled(url, events)
    print(f"{events} events: {_size(url)}", flush=True)
    pool = await open_pool(url, min_size=1, max_size=2, role="none", application_name="bench")
    try:
        async with _writing(pool, before_it=True) as waits:
            for what, seconds in (("before", 5.0), ("migration", 0.0), ("after", 5.0)):
                started = time.perf_counter()
                await asyncio.sleep(seconds)
                if what == "migration":
                    await migrate(url)
                _say(what, time.perf_counter() - started, waits())
        print(f"after it: {_size(url)}")
        async with _writing(pool, before_it=False) as waits:
            await asyncio.sleep(5)
            _say("this release", 5, waits())
            started = time.perf_counter()
            await migrate(url, confirm=True)
            _say("confirming", time.perf_counter() - started, waits())
            await asyncio.sleep(5)
            _say("after that", 5, waits())
    finally:
        await pool.close()


def main() -> None:
    """Fill, migrate, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, own_server() as server:
        old = Path(shutil.copytree(Path(migrating.__file__).with_name("migrations"), f"{folder}/m"))
        for migration in load_migrations()[BEFORE:]:
            (old / f"{migration}.sql").unlink()
        asyncio.run(_measure(server.admin_url_for("bench"), arguments.events, old))


if __name__ == "__main__":
    main()
