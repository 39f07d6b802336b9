"""What an append costs, against the cheapest thing that could hold the same bytes.

The floor is one prepared INSERT with one event per transaction, autocommit, by the same driver
into a table with the same columns and the same indexes, but without a lock, a version check,
idempotency or an order that readers can follow. Both run in turns, on the same server, so
that what else the machine does hits both alike. The CPU time is that of this process, which is the
limit with many connections: one event loop has one core.

    python -m tests.benchmarks.bench_append [--rounds 7] [--events 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import migrate
from domain.database.pool import open_pool
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, NewEvent
from domain.intents.ids import derived_id, new_id
from domain.memory import tune_gc
from infra.local.postgres.server import EmbeddedPostgres
from tests.benchmarks.server import own_server
from tests.benchmarks.statistics_of import median_ratio

PAYLOAD = {"at": "2026-03-01T12:00:00Z", "content": {"text": "x" * 300}, "fingerprint": "f" * 64}
METADATA = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

FLOOR_TABLE = """
    create table floor (like events including defaults including indexes);
    alter table floor drop column digest, drop column lane, drop column lane_position,
        drop column chain_digest,
        add column position bigint generated always as identity primary key;
    grant select, insert on floor to qlp_app;
"""
FLOOR = b"""
    insert into floor (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
        metadata, data)
    values (%(event_id)s, %(stream_id)s, 1, 'Happened', 1, 'acme', %(command_id)s, %(metadata)s,
        %(data)s)
    returning position, recorded_at
"""
INLINE = b"""
    insert into intent_states (id, tenant_id, version, status, user_input, created_at, updated_at)
    values (%(id)s, 'acme', 1, 'submitted', 'x', now(), now())
"""

Write = Callable[[UUID], Awaitable[object]]


def writers(pool: AsyncConnectionPool) -> dict[str, Write]:
    """The contestants by name; each takes the id of a new command."""
    log = EventLog(pool)

    async def floor(command_id: UUID) -> object:
        params = {
            "event_id": derived_id(command_id, "0"),
            "stream_id": f"intent-{command_id}",
            "command_id": command_id,
            "metadata": psycopg.types.json.Json(METADATA),
            "data": psycopg.types.json.Json(PAYLOAD),
        }
        async with pool.connection() as connection:
            cursor = await connection.execute(FLOOR, params, binary=True)
            return await cursor.fetchall()

    async def append(command_id: UUID) -> object:
        event = NewEvent(derived_id(command_id, "0"), "Happened", 1, PAYLOAD)
        return await log.append(f"intent-{command_id}", "acme", 0, command_id, [event], METADATA)

    async def append_inline(command_id: UUID) -> object:
        event = NewEvent(derived_id(command_id, "0"), "Happened", 1, PAYLOAD)
        inline = [InlineWrite(INLINE, {"id": command_id})]
        return await log.append(
            f"intent-{command_id}", "acme", 0, command_id, [event], METADATA, inline
        )

    return {"floor": floor, "append": append, "append + inline write": append_inline}


async def rate(write: Write, events: int, connections: int) -> tuple[float, float]:
    """Events per second of ``connections`` concurrent writers, and seconds of CPU per event."""

    async def work(count: int) -> None:
        for _ in range(count):
            await write(new_id())

    started, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(events // connections) for _ in range(connections)))
    return events / (time.perf_counter() - started), (time.process_time() - used) / events


async def make_tables(admin_url: str) -> None:
    """Make the schema and the floor's table."""
    await migrate(admin_url)
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(FLOOR_TABLE)


async def compare(server: EmbeddedPostgres, rounds: int, events: int) -> None:
    """Print medians over ``rounds`` for 1 and 16 connections."""
    await make_tables(server.admin_url_for("bench"))
    for connections in (1, 16):
        pool = await open_pool(
            server.app_url("bench"),
            min_size=connections,
            max_size=connections,
            application_name="bench",
        )
        contestants = writers(pool)
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        cpu: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(rounds + 1):
            for name, write in contestants.items():
                measured, used = await rate(write, events, connections)
                if number:  # the first round warms caches and prepares statements
                    rates[name].append(measured)
                    cpu[name].append(used)
        await pool.close()
        floor = rates["floor"]
        for name, measured_rates in rates.items():
            ratio = median_ratio(measured_rates, floor)
            median = statistics.median(measured_rates)
            print(
                f"{connections:3} connections  {name:22} {median:8.0f}/s  {ratio:5.2f} of floor  "
                f"{statistics.median(cpu[name]) * 1e6:5.0f} µs of CPU per event here"
            )


def main() -> None:
    """Run on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=2000, help="per contestant and round")
    options = parser.parse_args()
    tune_gc()
    with own_server() as server:
        asyncio.run(compare(server, options.rounds, options.events))


if __name__ == "__main__":
    main()
