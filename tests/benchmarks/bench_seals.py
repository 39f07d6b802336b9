"""How fast the log is sealed and verified, and an event proved.

The floor is reading the same events with all their columns, a page after the other, by lanes.

    python -m tests.benchmarks.bench_seals [--events 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import migrate
from domain.database.pool import open_pool
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.eventlog.scan import Filter, LogScanner
from domain.operations.log_integrity import LogVerifier
from domain.operations.proof import prove
from domain.sealing.keys import FileKey
from domain.sealing.sealer import Sealer
from infra.local.seal_key import new_seal_key
from tests.benchmarks.bench_rebuild import fill
from tests.benchmarks.server import own_server


async def _floor(pool: AsyncConnectionPool) -> float:
    started = time.perf_counter()
    to = await EventLog(pool).heads()
    async for _ in LogScanner(pool).parts(Heads.start(), to, Filter()):
        pass
    return time.perf_counter() - started


async def _proofs(pool: AsyncConnectionPool, ids: list[UUID]) -> list[float]:
    times = []
    for event_id in ids:
        started = time.perf_counter()
        await prove(pool, event_id)
        times.append(time.perf_counter() - started)
    return times


async def _measure(url: str, events: int, key: Path) -> None:
    pool = await open_pool(url, min_size=1, max_size=4, role="none", application_name="bench")
    try:
        floor = median([await _floor(pool) for _ in range(3)])
        print(f"floor: reading {events} events: {floor:.2f} s, {events / floor:,.0f} /s")
        started = time.perf_counter()
        seals = await Sealer(pool, FileKey(key)).run_until_caught_up()
        sealing = time.perf_counter() - started
        rate = events / sealing
        print(f"sealing: {seals} seals in {sealing:.2f} s, {rate:,.0f} /s, {floor / sealing:.2f}")
        times = []
        for _ in range(3):
            started = time.perf_counter()
            assert (await LogVerifier(pool).verify()).intact
            times.append(time.perf_counter() - started)
        verifying = median(times)
        rate = events / verifying
        print(f"verifying: {verifying:.2f} s, {rate:,.0f} /s, {floor / verifying:.2f} of the floor")
        async with pool.connection() as connection:
            some = "select event_id from events order by event_id limit 50"
            cursor = await connection.execute(some)
            ids = [row[0] for row in await cursor.fetchall()]
            size = await connection.execute(
                """select pg_total_relation_size('seals') + pg_total_relation_size('seal_heads'),
                pg_total_relation_size('events')"""
            )
            [(of_seals, of_events)] = await size.fetchall()
        proofs = await _proofs(pool, ids)
        print(f"proving one event: {median(proofs) * 1e3:.1f} ms (median of {len(proofs)})")
        print(f"seals take {of_seals / events:.1f} bytes an event, events {of_events / events:.0f}")
    finally:
        await pool.close()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    given = parser.parse_args()
    with own_server() as server, tempfile.TemporaryDirectory() as folder:
        url = server.admin_url_for("bench")
        asyncio.run(migrate(url))
        key = Path(folder) / "seal.pem"
        key.write_text(new_seal_key())
        fill(url, given.events)
        asyncio.run(_measure(url, given.events, key))


if __name__ == "__main__":
    main()
