"""How fast, and in how much memory, the read model of intents is rebuilt from the log.

The log is made by SQL: intents of five events each, interleaved as a few hundred concurrent ones
would be, with data as the application writes it. Each rebuild runs in a process of its own, set up
as ``qlp`` is, whose CPU time and peak memory are taken; the floor is reading the same events by the
fastest way there is (keyset pages in the log's order).

    python -m tests.benchmarks.bench_rebuild [--events 100000 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import time
from contextlib import aclosing

import orjson
import psycopg

from domain.database.migrate import migrate
from domain.database.pool import open_pool
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.memory import tune_gc
from domain.operations.projections import rebuild
from tests.benchmarks.server import own_server

AT = "2026-03-01T12:00:00Z"
CONTENT = {
    "text": "plot the monthly totals of this table, please",
    "program": {
        "language": "python",
        "files": [{"path": "main.py", "content": "print(sum([1, 2, 3]))\n" * 10}],
        "entrypoint": "main.py",
    },
}
RUN = "00000000-0000-4000-8000-000000000001"
OUTCOME = {
    "verdict": "succeeded",
    "exit_code": 0,
    "stdout": "6\n" * 20,
    "usage": {"wall_ms": 33.1, "cpu_user_ms": 20.0, "cpu_system_ms": 4.0},
    "runtime": "bubblewrap",
}
#: Type and data of the events of one intent.
HISTORY: list[tuple[str, dict[str, object]]] = [
    (
        "IntentSubmitted",
        {"tenant_id": "acme", "origin": "http", "content": CONTENT, "fingerprint": "f" * 64},
    ),
    ("IntentPlanned", {"source": "submitted"}),
    ("SandboxRunRequested", {"run_id": RUN, "attempt": 1}),
    ("SandboxRunFinished", {"run_id": RUN, "outcome": OUTCOME}),
    ("IntentSucceeded", {"run_id": RUN}),
]
METADATA = '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'

#: Intents overlap: version v of intent n lies near version 1 of intent n + 200 (v - 1).
GENERATE = """
    insert into events (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
        metadata, data)
    select gen_random_uuid(), 'intent-' || i.id, h.version, h.type, 1, 'acme', gen_random_uuid(),
        %(metadata)s::json,
        case when h.version = 1
            then (left(h.data, -1) || ',"intent_id":"' || i.id || '"}')::json
            else h.data::json end
    from (select n, md5(n::text)::uuid as id from generate_series(1, %(intents)s) n) i
    cross join unnest(%(types)s::text[], %(data)s::text[])
        with ordinality as h (type, data, version)
    order by i.n + 200 * (h.version - 1), h.version
"""


def fill(url: str, events: int) -> None:
    """Write ``events`` events of succeeded intents."""
    data = [orjson.dumps({"at": AT, **fields}).decode() for _, fields in HISTORY]
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            GENERATE,
            {
                "metadata": METADATA,
                "intents": events // len(HISTORY),
                "types": [type_ for type_, _ in HISTORY],
                "data": data,
            },
        )
        owner.execute("vacuum analyze events")


async def measure(url: str, what: str) -> tuple[int, float]:
    """Events and seconds of one rebuild, or of one pass over the log (``read``)."""
    pool = await open_pool(url, min_size=2, max_size=3, role="none", application_name="bench")
    try:
        started = time.perf_counter()
        if what != "read":
            rebuilt = await rebuild(pool, what, on_progress=lambda _: None).run()
            return rebuilt.events, time.perf_counter() - started
        count, log = 0, EventLog(pool)
        async with aclosing(log.follow(Heads.start())) as pages:
            async for page in pages:
                count += len(page)
        return count, time.perf_counter() - started
    finally:
        await pool.close()


def report(url: str, what: str) -> None:
    """Run `measure` in a process of its own and print its figures."""
    subprocess.run([sys.executable, "-m", __spec__.name, "--measure", what, url], check=True)


def main() -> None:
    """Run on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, url = options.measure
        tune_gc()
        used = time.process_time()
        count, seconds = asyncio.run(measure(url, what))
        used = time.process_time() - used
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{what:16} {count:9,} events  {seconds:6.1f} s  {count / seconds:8,.0f}/s  "
            f"{used / count * 1e6:5.1f} µs of CPU per event here  peak {peak} MiB",
            flush=True,
        )
        return
    with own_server() as server:
        for events in options.events:
            name = f"bench_{events}"
            server.create_database(name)
            url = server.admin_url_for(name)
            asyncio.run(migrate(url))
            fill(url, events)
            for what in ("read", "intent_states", "usage_daily"):
                report(url, what)


if __name__ == "__main__":
    main()
