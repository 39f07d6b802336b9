"""How the log behaves as it grows: bytes per event, and the cost of using it, by size.

Streams have five events of the sizes that a one-line program leaves behind. The events are made by
the server, not through appends, so a million takes a minute or two. Each size has a database of its
own, and they take turns. After a checkpoint PostgreSQL writes each page whole when first changed;
the ids of streams and commands are random, so in a large log nearly every append meets four such
pages, until all have been written. So appends are measured twice: right after a checkpoint, and
after a tenth of the log has been added, when nearly all pages have been written since.

    python -m tests.benchmarks.bench_scale [--sizes 1000 100000 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4, uuid5

import orjson
import psycopg
from psycopg_pool import AsyncConnectionPool

from domain.database import open_pool
from domain.eventlog.log import EventLog
from domain.eventlog.migrate import migrate
from domain.eventlog.models import Checkpoint, NewEvent
from infra.local.postgres import EmbeddedPostgres
from tests.benchmarks.bench_append import METADATA, PAYLOAD
from tests.benchmarks.server import own_server
from tests.benchmarks.statistics_of import percentile

EVENTS_PER_STREAM = 5
METADATA_JSON = orjson.dumps(METADATA).decode()

# One transaction per 1,000 events, so that transaction ids grow as they do in use.
FILL = """
    insert into events (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
        metadata, data)
    select gen_random_uuid(), 'intent-' || md5((g / 5)::text)::uuid, g %% 5 + 1, 'Happened', 1,
        'tenant-' || g / 5 %% 100, gen_random_uuid(), %(metadata)s::json,
        json_build_object('at', now(), 'text', repeat('x', 180 + g %% 5 * 40))
    from generate_series(%(first)s::int, %(last)s::int) g
"""
SIZES = """
    select c.relname, pg_relation_size(c.oid)
    from pg_class c left join pg_index i on i.indexrelid = c.oid
    where c.oid = 'events'::regclass or i.indrelid = 'events'::regclass
    order by 2 desc
"""


Use = Callable[[], Awaitable[object]]


def uses(pool: AsyncConnectionPool, size: int) -> dict[str, Use]:
    """What a log with ``size`` events is used for, by name."""
    log = EventLog(pool)
    streams = range(7, size // EVENTS_PER_STREAM, max(1, size // EVENTS_PER_STREAM // 400))
    ids = itertools.cycle([UUID(bytes=_md5(str(number))) for number in streams])
    start = Checkpoint.start()

    async def append() -> object:
        command_id = uuid4()
        event = NewEvent(uuid5(command_id, "0"), "Happened", 1, PAYLOAD)
        return await log.append(f"intent-{command_id}", "acme", 0, command_id, [event], METADATA)

    async def read_stream() -> object:
        return await log.read_stream(f"intent-{next(ids)}")

    async def follow() -> object:
        return await log.read_all(start, 1000)

    return {"append": append, "read a stream": read_stream, "follow 1,000": follow}


async def compare(server: EmbeddedPostgres, sizes: list[int]) -> None:
    """Print the medians of all sizes, which take turns; appends also just after a checkpoint."""
    pools = [
        await open_pool(
            server.app_url(_database(size)), min_size=1, max_size=2, application_name="bench"
        )
        for size in sizes
    ]
    logs = [uses(pool, size) for pool, size in zip(pools, sizes, strict=True)]
    cold = await in_turns([log["append"] for log in logs])
    for size in sizes:
        with psycopg.connect(server.admin_url_for(_database(size)), autocommit=True) as admin:
            params = {"first": size, "last": size + size // 10, "metadata": METADATA_JSON}
            admin.execute(FILL, params)
    columns = {"append after a checkpoint": cold}
    for name in logs[0]:
        columns[name] = await in_turns([log[name] for log in logs])
    for pool in pools:
        await pool.close()
    for number, size in enumerate(sizes):
        told = "   ".join(f"{name} {values[number]:6.2f} ms" for name, values in columns.items())
        print(f"{size:>9,} events   {told}", flush=True)


async def in_turns(calls: list[Use], rounds: int = 20, times: int = 20) -> list[float]:
    """Median milliseconds of each call."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, into in zip(calls, taken, strict=True):
            for _ in range(times):
                started = time.perf_counter()
                await call()
                into.append((time.perf_counter() - started) * 1000)
    return [percentile(values, 50) for values in taken]


def _md5(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def fill(server: EmbeddedPostgres, size: int) -> None:
    """Make a log of ``size`` events in a database of its own."""
    server.create_database(_database(size))
    asyncio.run(migrate(server.admin_url_for(_database(size))))
    with psycopg.connect(server.admin_url_for(_database(size)), autocommit=True) as admin:
        for first in range(0, size, 1000):
            last = min(first + 999, size - 1)
            admin.execute(FILL, {"first": first, "last": last, "metadata": METADATA_JSON})
        admin.execute("vacuum analyze events")


def _database(size: int) -> str:
    return f"bench_{size}"


def run(server: EmbeddedPostgres, sizes: list[int]) -> None:
    """Print one line per size, then where the bytes are."""
    for size in sizes:
        fill(server, size)
    with psycopg.connect(server.admin_url_for(_database(sizes[-1])), autocommit=True) as admin:
        parts = admin.execute(SIZES).fetchall()
        admin.execute("checkpoint")
    asyncio.run(compare(server, sizes))
    total = sum(size for _, size in parts)
    print(f"{total / sizes[-1]:.0f} bytes per event in all, of which")
    for name, size in parts:
        print(f"    {name:<28} {size / sizes[-1]:5.0f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    options = parser.parse_args()
    with own_server() as server:
        run(server, sorted(options.sizes))


if __name__ == "__main__":
    main()
