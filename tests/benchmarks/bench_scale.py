"""How the log behaves as it grows: bytes per event, and the cost of using it, by size.

Streams have five events of the sizes that a one-line program leaves behind. The events are made by
the server, not through appends, so a million takes a minute or two.

    python -m tests.benchmarks.bench_scale [--sizes 1000 100000 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4, uuid5

import psycopg

from domain.database import open_pool
from domain.eventlog.log import EventLog
from domain.eventlog.migrate import migrate
from domain.eventlog.models import Checkpoint, NewEvent
from infra.local.postgres import EmbeddedPostgres
from tests.benchmarks.bench_append import METADATA, PAYLOAD
from tests.benchmarks.server import own_server
from tests.benchmarks.statistics_of import percentile

EVENTS_PER_STREAM = 5

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


async def milliseconds(call: Callable[[], Awaitable[object]], times: int = 200) -> float:
    """Median of ``times`` calls."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - started) * 1000)
    return percentile(taken, 50)


async def use(url: str, size: int) -> dict[str, float]:
    """Median milliseconds of what the log is used for."""
    pool = await open_pool(url, min_size=1, max_size=2, application_name="bench")
    log = EventLog(pool)
    streams = iter(range(7, size // EVENTS_PER_STREAM, max(1, size // EVENTS_PER_STREAM // 400)))
    ids = [UUID(bytes=_md5(str(number))) for number in streams]
    start = Checkpoint.start()

    async def append() -> object:
        command_id = uuid4()
        event = NewEvent(uuid5(command_id, "0"), "Happened", 1, PAYLOAD)
        return await log.append(f"intent-{command_id}", "acme", 0, command_id, [event], METADATA)

    async def read_stream() -> object:
        ids.append(found := ids.pop(0))
        return await log.read_stream(f"intent-{found}")

    async def follow() -> object:
        return await log.read_all(start, 1000)

    figures = {
        "append": await milliseconds(append),
        "read a stream": await milliseconds(read_stream),
        "follow 1,000": await milliseconds(follow, 20),
    }
    await pool.close()
    return figures


def _md5(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def grow(admin: psycopg.Connection, size: int) -> None:
    """Fill the log up to ``size`` events."""
    [(count,)] = admin.execute("select count(*) from events").fetchall()
    for first in range(count, size, 1000):
        last = min(first + 999, size - 1)
        params = {"first": first, "last": last, "metadata": psycopg.types.json.Json(METADATA)}
        admin.execute(FILL, params)
    admin.execute("vacuum analyze events")


def run(server: EmbeddedPostgres, sizes: list[int]) -> None:
    """Print one line per size, then where the bytes are."""
    asyncio.run(migrate(server.admin_url_for("bench")))
    with psycopg.connect(server.admin_url_for("bench"), autocommit=True) as admin:
        for size in sizes:
            grow(admin, size)
            figures = asyncio.run(use(server.app_url("bench"), size))
            told = "   ".join(f"{name} {value:6.2f} ms" for name, value in figures.items())
            print(f"{size:>9,} events   {told}", flush=True)
        parts = admin.execute(SIZES).fetchall()
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
