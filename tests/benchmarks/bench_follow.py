"""Following the log: as stored, decoded, and as typed events, against ``eventsourcing``.

The events are those of ``tests/recorded_events``, under new ids. ``eventsourcing`` 9.5 (see
requirements-bench.txt) holds the same data and reads it in pages of the same size: as stored
notifications, and decoded by its own mapper into objects: dictionaries as they were parsed, where
ours are checked and typed. All take turns in one process, set up as the application's.

    python -m tests.benchmarks.bench_follow [--events 100000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
from eventsourcing.domain import DomainEvent, datetime_now_with_tzinfo
from eventsourcing.persistence import DatetimeAsISO, JSONTranscoder, Mapper, UUIDAsHex
from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import migrate
from domain.database.pool import open_pool
from domain.eventlog.heads import Heads
from domain.eventlog.intent_streams import typed
from domain.eventlog.log import EventLog
from domain.eventlog.scan import Filter, LogScanner
from domain.memory import tune_gc
from infra.local.postgres.server import EmbeddedPostgres
from tests.benchmarks.bench_append import METADATA
from tests.benchmarks.eventsourcing_log import recorder_at
from tests.benchmarks.server import own_server
from tests.benchmarks.statistics_of import median_ratio

PAGE = 1000
STREAMS = Path(__file__).parents[1] / "recorded_events/streams"

COPY = """
    copy events (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
        recorded_at, metadata, data) from stdin
"""

#: Reads everything; returns the number of events.
Follower = Callable[[], Awaitable[int]]


def recorded(count: int) -> Iterator[tuple[UUID, int, dict[str, Any]]]:
    """Stream, version and recorded event of ``count`` events."""
    streams = [json.loads(path.read_text("utf-8"))["events"] for path in sorted(STREAMS.iterdir())]
    endless = (
        (stream_id, version, event)
        for events in itertools.cycle(streams)
        for stream_id in [uuid4()]
        for version, event in enumerate(events, 1)
    )
    return itertools.islice(endless, count)


def fill(admin_url: str, count: int) -> None:
    """Put ``count`` events into the log, 1,000 in a transaction."""
    metadata = orjson.dumps(METADATA).decode()
    events = recorded(count)
    with psycopg.connect(admin_url) as connection:
        while page := list(itertools.islice(events, PAGE)):
            with connection.transaction(), connection.cursor().copy(COPY) as copy:
                for stream_id, version, event in page:
                    copy.write_row((
                        uuid4(), f"intent-{stream_id}", version, event["type"], 1, "acme", uuid4(),
                        "now", metadata, orjson.dumps(event["data"]).decode(),
                    ))  # fmt: skip
        connection.execute("analyze events")


def ours(pool: AsyncConnectionPool) -> dict[str, Follower]:
    """The ways to follow our log."""
    log, scanner = EventLog(pool), LogScanner(pool)

    async def stored() -> int:
        count = 0
        async for part in scanner.parts(Heads.start(), await log.heads(), Filter(), PAGE):
            count += len(part)
        return count

    async def decoded() -> int:
        count, after, to = 0, Heads.start(), await log.heads()
        while not after.reaches(to):
            page, after = await log.read_all(after, PAGE)
            count += len(page)
        return count

    async def into_types() -> int:
        count = 0
        async for page in log.follow(Heads.start(), limit=PAGE):
            count += len([typed(record) for record in page])
        return count

    return {"stored": stored, "decoded": decoded, "typed events": into_types}


def theirs(admin_url: str, count: int) -> dict[str, Follower]:
    """The ways to follow the log of ``eventsourcing``."""
    recorder = recorder_at(admin_url)
    transcoder = JSONTranscoder()
    transcoder.register(UUIDAsHex())
    transcoder.register(DatetimeAsISO())
    mapper: Any = Mapper(transcoder)

    def stored_event(stream_id: UUID, version: int, event: dict[str, Any]) -> Any:
        happened: Any = DomainEvent(
            originator_id=stream_id, originator_version=version,
            timestamp=datetime_now_with_tzinfo(),
        )  # fmt: skip
        happened.__dict__.update(type=event["type"], metadata=METADATA, data=event["data"])
        return mapper.to_stored_event(happened)

    events = (stored_event(*event) for event in recorded(count))
    while page := list(itertools.islice(events, PAGE)):
        recorder.insert_events(page)

    def pages() -> Iterator[Any]:
        start = 1
        while page := recorder.select_notifications(start=start, limit=PAGE):
            yield page
            start = page[-1].id + 1

    async def stored() -> int:
        return sum(len(page) for page in pages())

    async def into_types() -> int:
        return sum(len([mapper.to_domain_event(event) for event in page]) for page in pages())

    return {"eventsourcing: stored": stored, "eventsourcing: objects": into_types}


async def compare(server: EmbeddedPostgres, events: int, rounds: int) -> None:
    """Print the median rate of each follower and its ratio to the first."""
    await migrate(server.admin_url_for("bench"))
    fill(server.admin_url_for("bench"), events)
    pool = await open_pool(
        server.app_url("bench"), min_size=1, max_size=2, application_name="bench"
    )
    followers = ours(pool) | theirs(server.admin_url_for("bench"), events)
    rates: dict[str, list[float]] = {name: [] for name in followers}
    cpu: dict[str, list[float]] = {name: [] for name in followers}
    for number in range(rounds + 1):
        for name, follow in followers.items():
            started, used = time.perf_counter(), time.process_time()
            if (count := await follow()) != events:
                raise RuntimeError(f"{name}: followed {count} of {events} events")
            if number:  # the first round warms caches and prepares statements
                rates[name].append(events / (time.perf_counter() - started))
                cpu[name].append((time.process_time() - used) / events)
    await pool.close()
    for name, measured in rates.items():
        ratio = median_ratio(measured, rates["stored"])
        print(
            f"{name:24} {statistics.median(measured):9,.0f} events/s  {ratio:5.2f} of stored  "
            f"{statistics.median(cpu[name]) * 1e6:6.1f} µs of CPU per event here"
        )


def main() -> None:
    """Run on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tune_gc()
    with own_server() as server:
        asyncio.run(compare(server, options.events, options.rounds))


if __name__ == "__main__":
    main()
