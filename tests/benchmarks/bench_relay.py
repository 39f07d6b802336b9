"""Events a second that relays publish, in one process and in several.

Each process has a publisher that takes as long for a send as a bus at some distance does, so that
one process is bound by it and not by the machine; with no such time, the machine's cores bound all.

    python -m tests.benchmarks.bench_relay [--events 20000] [--latencies 0 5 20] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from statistics import median

import psycopg

from domain.application.repository import IntentRepository
from domain.database.migrate import migrate
from domain.database.pool import open_pool
from domain.eventlog.followers import Followers
from domain.eventlog.log import EventLog
from domain.eventlog.models import RecordedEvent
from domain.messaging.publisher import OutgoingMessage
from domain.messaging.relay import NAME, Relay
from domain.messaging.routing import Destinations, Router
from domain.runs.tokens import RunTokens
from infra.local.postgres.server import EmbeddedPostgres
from tests.benchmarks.server import own_server

FILL = """
    insert into events (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
        metadata, data)
    select gen_random_uuid(), 'intent-' || s.id, v, 'Happened', 1, 'acme', gen_random_uuid(),
        '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}', '{"n": 1}'
    from (select gen_random_uuid() as id from generate_series(1, %(streams)s)) s
    cross join generate_series(1, 5) as v
    order by s.id, v
"""


class DistantBus:
    """Takes ``seconds`` for each send, whatever it is sent."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.messages = 0

    async def open(self) -> None:
        """It is always there."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Count them."""
        await asyncio.sleep(self._seconds)
        self.messages += len(messages)


async def publish(url: str, seconds: float) -> None:
    """Publish until nothing is left; says when it is ready, and begins when it is told."""
    pool = await open_pool(url, min_size=1, max_size=3, application_name="relay")
    bus = DistantBus(seconds)
    router = Router(
        IntentRepository(EventLog(pool)), Destinations("events", "jobs"), RunTokens([b"k" * 32])
    )

    async def reject(record: RecordedEvent, error: Exception) -> None:
        raise error

    relay = Relay(pool, router, bus, reject)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    while (await Followers(pool).lag(NAME)).events:
        if not await relay.run_until_caught_up():
            await asyncio.sleep(0.005)  # others hold the rest, as they do between two wakings
    print(bus.messages, flush=True)
    await pool.close()


async def measure(server: EmbeddedPostgres, processes: int, seconds: float, events: int) -> float:
    """Events a second of ``processes`` relays."""
    database = f"relay_{time.time_ns()}"
    server.create_database(database)
    await migrate(server.admin_url_for(database))
    with psycopg.connect(server.admin_url_for(database), autocommit=True) as admin:
        admin.execute(FILL, {"streams": events // 5})
        admin.execute("vacuum analyze events")
    running = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.benchmarks.bench_relay", "--publish"),
            *(server.app_url(database), str(seconds)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    started = time.perf_counter()
    outputs = await asyncio.gather(*(process.communicate(b"\n") for process in running))
    took = time.perf_counter() - started
    assert sum(int(output) for output, _ in outputs) == events
    return events / took


async def main(events: int, latencies: list[float], rounds: int) -> None:
    """Print the medians; all take turns."""
    print(f"{events} events; events a second in 1, 2 and 4 processes, and the ratio to one")
    with own_server() as server:
        for latency in latencies:
            rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
            for _ in range(rounds):
                for processes, measured in rates.items():
                    measured.append(await measure(server, processes, latency / 1e3, events))
            one = median(rates[1])
            shown = "  ".join(
                f"{count}: {median(found):7,.0f} ({median(found) / one:.2f})"
                for count, found in rates.items()
            )
            print(f"a send takes {latency:4.0f} ms   {shown}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument(
        "--latencies", type=float, nargs="+", default=[0, 5, 20], help="milliseconds"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.publish:
        asyncio.run(publish(given.publish[0], float(given.publish[1])))
    else:
        asyncio.run(main(given.events, given.latencies, given.rounds))
