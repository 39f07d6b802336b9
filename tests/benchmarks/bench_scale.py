"""How the log behaves as it grows: bytes per event, and the cost of using it, by size.

Streams have five events of the sizes that a one-line program leaves behind. The events are made by
the server, not through appends, so a million takes a minute or two. Each size has a database of its
own, and they take turns. Ids are those of the application, in order of time, or random ones, as
clients' own keys lead to. After a checkpoint PostgreSQL writes each page whole when first changed,
and each random id needs another page. So appends are measured twice: right after a checkpoint,
and after a tenth of the log has been added, when nearly all pages have been written since.

    python -m tests.benchmarks.bench_scale [--sizes 1000 100000 1000000] [--ids time random]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import migrate
from domain.database.pool import open_pool
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.intents.ids import derived_id, new_id
from infra.local.postgres.server import EmbeddedPostgres
from tests.benchmarks.bench_append import METADATA, PAYLOAD
from tests.benchmarks.server import own_server
from tests.benchmarks.statistics_of import percentile

EVENTS_PER_STREAM = 5
METADATA_JSON = orjson.dumps(METADATA).decode()

FILL = """
    insert into events (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
        metadata, data)
    select overlay(md5('event ' || g) placing prefix from 1)::uuid,
        'intent-' || overlay(md5((g / 5)::text) placing prefix from 1)::uuid, g %% 5 + 1,
        'Happened', 1, 'tenant-' || g / 5 %% 100,
        overlay(md5('command ' || g) placing prefix from 1)::uuid, %(metadata)s::json,
        json_build_object('at', now(), 'text', repeat('x', 180 + g %% 5 * 40))
    from generate_series(%(first)s::int, %(last)s::int) g,
        lateral (select case when %(timed)s then lpad(to_hex(%(epoch)s + g / 5), 12, '0')
            else '' end as prefix) p
"""
WAL = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
IDS = ("time", "random")

#: Milliseconds since 1970 of the first id that is made.
EPOCH = 1_700_000_000_000
SIZES = """
    select c.relname, pg_relation_size(c.oid)
    from pg_class c left join pg_index i on i.indexrelid = c.oid
    where c.oid = 'events'::regclass or i.indrelid = 'events'::regclass
    order by 2 desc
"""


Use = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Log:
    """A log of a size, in a database of its own; ids in order of time (``timed``) or random."""

    size: int
    timed: bool

    @property
    def database(self) -> str:
        return f"bench_{self.size}_{'time' if self.timed else 'random'}"

    def stream_id(self, number: int) -> UUID:
        """The id of a stream that `add` made."""
        digest = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
        prefix = f"{EPOCH + number:012x}" if self.timed else ""
        return UUID(prefix + digest[len(prefix) :])

    def make(self, server: EmbeddedPostgres) -> None:
        """Make the database and its events."""
        server.create_database(self.database)
        asyncio.run(migrate(server.admin_url_for(self.database)))
        with self.admin(server) as admin:
            for first in range(0, self.size, 1000):
                self.add(admin, first, min(first + 999, self.size - 1))
            admin.execute("vacuum analyze events")

    def add(self, admin: psycopg.Connection[Any], first: int, last: int) -> None:
        """Add the events with these numbers."""
        params = {"first": first, "last": last, "timed": self.timed, "epoch": EPOCH}
        admin.execute(FILL, {**params, "metadata": METADATA_JSON})

    def admin(self, server: EmbeddedPostgres) -> psycopg.Connection[Any]:
        return psycopg.connect(server.admin_url_for(self.database), autocommit=True)


def uses(pool: AsyncConnectionPool, of: Log) -> dict[str, Use]:
    """What a log is used for, by name."""
    log = EventLog(pool)
    streams = range(7, of.size // EVENTS_PER_STREAM, max(1, of.size // EVENTS_PER_STREAM // 400))
    ids = itertools.cycle([of.stream_id(number) for number in streams])
    start = Heads.start()

    async def append() -> object:
        intent_id = new_id() if of.timed else uuid4()
        command_id = derived_id(intent_id, "submit")
        event = NewEvent(derived_id(command_id, "0"), "Happened", 1, PAYLOAD)
        return await log.append(f"intent-{intent_id}", "acme", 0, command_id, [event], METADATA)

    async def read_stream() -> object:
        return await log.read_stream(f"intent-{next(ids)}")

    async def follow() -> object:
        return await log.read_all(start, 1000)

    return {"append": append, "read a stream": read_stream, "follow 1,000": follow}


async def compare(server: EmbeddedPostgres, logs: list[Log]) -> None:
    """Print the medians of all logs, which take turns; appends also just after a checkpoint."""
    pools = [
        await open_pool(
            server.app_url(log.database), min_size=1, max_size=2, application_name="bench"
        )
        for log in logs
    ]
    used = [uses(pool, log) for pool, log in zip(pools, logs, strict=True)]
    written = [
        await written_by(server, log, use["append"]) for log, use in zip(logs, used, strict=True)
    ]
    with logs[0].admin(server) as admin:
        admin.execute("checkpoint")
    columns = {"append after a checkpoint": await in_turns([use["append"] for use in used])}
    for log in logs:
        with log.admin(server) as admin:
            log.add(admin, log.size, log.size + log.size // 10)
    for name in used[0]:
        columns[name] = await in_turns([use[name] for use in used])
    for pool in pools:
        await pool.close()
    for number, log in enumerate(logs):
        told = "   ".join(f"{name} {values[number]:5.2f} ms" for name, values in columns.items())
        ids = "time" if log.timed else "random"
        kilobytes = written[number] / 1000
        print(
            f"{log.size:>9,} events, {ids:<6} ids   {told}   {kilobytes:5.1f} KB written",
            flush=True,
        )


async def written_by(server: EmbeddedPostgres, log: Log, append: Use, times: int = 200) -> float:
    """Bytes of write-ahead log per append, just after a checkpoint."""
    with log.admin(server) as admin:
        admin.execute("checkpoint")
        before = admin.execute(WAL).fetchone()
        for _ in range(times):
            await append()
        after = admin.execute(WAL).fetchone()
    assert before is not None
    assert after is not None
    return float(after[0] - before[0]) / times


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


def run(server: EmbeddedPostgres, logs: list[Log]) -> None:
    """Print one line per log, then where the bytes are in the largest of each kind."""
    for log in logs:
        log.make(server)
    largest = {log.timed: log for log in logs}
    parts = {}
    for timed, log in largest.items():
        with log.admin(server) as admin:
            parts[timed] = admin.execute(SIZES).fetchall()
    asyncio.run(compare(server, logs))
    for timed, log in largest.items():
        total = sum(size for _, size in parts[timed])
        ids = "in order of time" if timed else "that are random"
        print(f"{total / log.size:.0f} bytes per event in all with ids {ids}, of which")
        for name, size in parts[timed]:
            print(f"    {name:<28} {size / log.size:5.0f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--ids", nargs="+", choices=IDS, default=IDS)
    options = parser.parse_args()
    logs = [Log(size, ids == "time") for ids in options.ids for size in sorted(options.sizes)]
    with own_server() as server:
        run(server, logs)


if __name__ == "__main__":
    main()
