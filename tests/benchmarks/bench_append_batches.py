"""Appends of 1, 10 and 100 events per command, against a bare INSERT and ``eventsourcing``.

The floor inserts the same events in one statement, without lock, version check, idempotency or an
order that readers can follow: with arrays as parameters, as it is usually written, and
with one JSON value, as we send it, which is less work for the driver. ``eventsourcing`` 9.5 records
them through its own PostgresApplicationRecorder, which a follower may trust as well: it locks the
table. It is synchronous, so it gets as many threads as we get connections.

    python -m tests.benchmarks.bench_append_batches [--rounds 5] [--seconds 2]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import orjson
from eventsourcing.persistence import StoredEvent
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import open_pool
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.intents.ids import derived_id, new_id
from domain.memory import tune_gc
from infra.local.postgres.server import EmbeddedPostgres
from tests.benchmarks.bench_append import METADATA, PAYLOAD, make_tables
from tests.benchmarks.eventsourcing_log import recorder_at
from tests.benchmarks.server import own_server
from tests.benchmarks.statistics_of import median_ratio

FLOOR = b"""
    insert into floor (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
        metadata, data)
    select e.id, %(stream_id)s, e.n, 'Happened', 1, 'acme', %(command_id)s, %(metadata)s::json,
        e.data::json
    from unnest(%(ids)s::uuid[], %(data)s::text[]) with ordinality as e (id, data, n)
    returning position, recorded_at
"""

FLOOR_JSON = FLOOR.replace(
    b"unnest(%(ids)s::uuid[], %(data)s::text[]) with",
    b"rows from (jsonb_to_recordset(%(events)s::jsonb) as (id uuid, data text)) with",
)

Contestant = Callable[[int, int, float], Awaitable[int]]


def ours(pool: AsyncConnectionPool) -> dict[str, Contestant]:
    """The bare INSERTs and our append; each returns how many events it wrote."""
    log = EventLog(pool)

    async def floor(batch: int) -> None:
        command_id = new_id()
        await insert(
            FLOOR,
            command_id,
            ids=[derived_id(command_id, str(n)) for n in range(batch)],
            data=[orjson.dumps(PAYLOAD).decode() for _ in range(batch)],
        )

    async def floor_json(batch: int) -> None:
        command_id = new_id()
        events = [
            {"id": derived_id(command_id, str(n)), "data": orjson.dumps(PAYLOAD).decode()}
            for n in range(batch)
        ]
        await insert(FLOOR_JSON, command_id, events=orjson.dumps(events).decode())

    async def insert(statement: bytes, command_id: UUID, **more: Any) -> None:
        params = {
            "stream_id": f"intent-{command_id}",
            "command_id": command_id,
            "metadata": orjson.dumps(METADATA).decode(),
        }
        async with pool.connection() as connection:
            await (await connection.execute(statement, params | more, binary=True)).fetchall()

    async def append(batch: int) -> None:
        command_id = new_id()
        events = [
            NewEvent(derived_id(command_id, str(n)), "Happened", 1, PAYLOAD) for n in range(batch)
        ]
        await log.append(f"intent-{command_id}", "acme", 0, command_id, events, METADATA)

    def timed(write: Callable[[int], Awaitable[None]]) -> Contestant:
        async def run(batch: int, connections: int, seconds: float) -> int:
            until = time.perf_counter() + seconds

            async def one() -> int:
                written = 0
                while time.perf_counter() < until:
                    await write(batch)
                    written += batch
                return written

            return sum(await asyncio.gather(*(one() for _ in range(connections))))

        return run

    return {
        "bare INSERT": timed(floor),
        "INSERT of JSON": timed(floor_json),
        "append": timed(append),
    }


def theirs(url: str, connections: int) -> Contestant:
    """``eventsourcing``'s recorder over its own pool."""
    recorder = recorder_at(url, connections)
    state = orjson.dumps({"metadata": METADATA, "data": PAYLOAD})

    def one(batch: int, until: float) -> int:
        written = 0
        while time.perf_counter() < until:
            originator = uuid4()
            recorder.insert_events(
                [StoredEvent(originator, n, "Happened", state) for n in range(1, batch + 1)]
            )
            written += batch
        return written

    async def run(batch: int, connections: int, seconds: float) -> int:
        until = time.perf_counter() + seconds
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(connections) as threads:
            tasks = [loop.run_in_executor(threads, one, batch, until) for _ in range(connections)]
            return sum(await asyncio.gather(*tasks))

    return run


async def compare(server: EmbeddedPostgres, rounds: int, seconds: float) -> None:
    """Print medians over ``rounds``, the contestants taking turns."""
    admin_url = server.admin_url_for("bench")
    await make_tables(admin_url)
    for connections in (1, 16):
        pool = await open_pool(
            server.app_url("bench"),
            min_size=connections,
            max_size=connections,
            application_name="bench",
        )
        contestants = {**ours(pool), "eventsourcing": theirs(admin_url, connections)}
        for batch in (1, 10, 100):
            rates: dict[str, list[float]] = {name: [] for name in contestants}
            for round_ in range(rounds + 1):
                for name, run in contestants.items():
                    measured = await run(batch, connections, seconds) / seconds
                    if round_ > 0:  # the first round warms caches and prepares statements
                        rates[name].append(measured)
            for name, values in rates.items():
                print(
                    f"{connections:>2} connections, {batch:>3} per command  {name:<14}"
                    f"{median(values):8.0f} events/s  "
                    f"{median_ratio(values, rates['bare INSERT']):5.2f} of the bare INSERT  "
                    f"{median_ratio(values, rates['eventsourcing']):5.1f} × eventsourcing"
                )
        await pool.close()


def main() -> None:
    """Run on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per contestant and round")
    options = parser.parse_args()
    tune_gc()
    with own_server() as server:
        asyncio.run(compare(server, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
