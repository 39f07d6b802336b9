"""Intents a second with sixteen clients that wait for results, and by producers over the bus.

With the CPU time of each part for an intent, and messages, transactions and SQL statements. The
floor is the same program, as many times, by as many plain subprocesses at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from tests.benchmarks.parts import on_each_runtime
from tests.benchmarks.statistics_of import percentile
from tests.support.stack import RunningStack, open_folder, running_stack, submission

CLIENTS = 16
PROGRAMS: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "shell": (
        {"language": "shell", "files": {"main.sh": "echo $((6 * 7))"}},
        ("sh", "-c", "echo $((6 * 7))"),
    ),
    "python": (
        {"language": "python", "files": {"main.py": "print(6 * 7)"}},
        ("python3", "-I", "-S", "-c", "print(6 * 7)"),
    ),
}
ENTITIES = ("intents", "intent-events", "sandbox-jobs", "sandbox-results")


def cpu_seconds(root: int) -> tuple[float, float]:
    """CPU time of a process by itself, and with those below it and those that it has waited for."""
    parents: dict[int, int] = {}
    times: dict[int, int] = {}
    own = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents[int(entry.name)] = int(fields[1])
            times[int(entry.name)] = sum(map(int, fields[11:15]))
            if int(entry.name) == root:
                own = sum(map(int, fields[11:13]))
    total, below = 0, {root}
    for pid in sorted(times):
        chain = pid
        while chain not in below and chain in parents:
            chain = parents[chain]
        if chain in below:
            total += times[pid]
    tick = os.sysconf("SC_CLK_TCK")
    return own / tick, total / tick


class Meter:
    """What a phase of work costs in the parts of a stack."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self._before: dict[str, float] = {}

    async def start(self) -> None:
        """Begin to count."""
        self._before = await self._read()

    async def costs(self, count: int) -> str:
        """What has been used since, for each of ``count`` intents."""
        after = await self._read()
        each = {name: (after[name] - self._before[name]) / count for name in after}
        own = {name: each[name] * 1000 for name in self._stack.stack.children}
        boxes = each["boxes"] * 1000
        named = ", ".join(f"{name} {value:.1f}" for name, value in own.items())
        return (
            f"CPU: {named}: {sum(own.values()):.1f} ms, boxes and programs {boxes:.1f}   "
            f"{each['transactions']:.1f} transactions"
        )

    async def _read(self) -> dict[str, float]:
        children = self._stack.stack.children
        found = {name: cpu_seconds(child.pid or 0) for name, child in children.items()}
        host, with_boxes = found["sandbox"]
        used = {name: whole for name, (_, whole) in found.items()}
        used |= {"sandbox": host, "boxes": with_boxes - host}
        admin = self._stack.endpoints.database_admin_url
        async with await psycopg.AsyncConnection.connect(admin) as connection:
            rows = await connection.execute(
                "select xact_commit from pg_stat_database where datname = current_database()"
            )
            [(commits,)] = await rows.fetchall()
        return {**used, "transactions": float(commits)}


async def plain(command: tuple[str, ...], count: int) -> float:
    """Programs a second, so many at once as there are clients."""
    left = iter(range(count))

    async def one() -> None:
        for _ in left:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.DEVNULL
            )
            await process.wait()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return count / (time.perf_counter() - started)


async def by_clients(
    stack: RunningStack, program: dict[str, Any], count: int
) -> tuple[float, list[float]]:
    """Intents a second, and the seconds that each took, with clients that wait."""
    left, latencies = iter(range(count)), []

    async def one() -> None:
        for _ in left:
            started = time.perf_counter()
            intent = await stack.client.run({"program": program})
            latencies.append(time.perf_counter() - started)
            if intent["status"] != "succeeded":
                raise RuntimeError(f"an intent has {intent['status']}")

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return count / (time.perf_counter() - started), latencies


async def ended(stack: RunningStack) -> int:
    """How many intents have ended."""
    async with stack.pool() as pool, pool.connection() as connection:
        rows = await connection.execute(
            "select count(*) from intent_states where completed_at is not null"
        )
        [(count,)] = await rows.fetchall()
        return int(count)


async def by_producers(
    stack: RunningStack, program: dict[str, Any], count: int
) -> tuple[float, float]:
    """Intents that are accepted and that end in a second, sent over the bus all at once."""
    tenant = await stack.tenant_of(stack.client)
    before = await ended(stack)
    started = time.perf_counter()
    connection_string = stack.endpoints.service_bus
    async with (
        ServiceBusClient.from_connection_string(connection_string) as client,
        client.get_queue_sender("intents") as sender,
    ):
        for first in range(0, count, 100):
            await sender.send_messages(
                [
                    ServiceBusMessage(json.dumps(submission(tenant, {"program": program})))
                    for _ in range(first, min(first + 100, count))
                ]
            )
    async with stack.pool() as pool, pool.connection() as connection:
        total = "select count(*), count(completed_at) from intent_states"
        accepted = None
        while True:
            rows = await connection.execute(total)
            [(known, done)] = await rows.fetchall()
            await connection.commit()
            now = time.perf_counter() - started
            if accepted is None and known >= before + count:
                accepted = now
            if done >= before + count:
                return count / (accepted or now), count / now
            await asyncio.sleep(0.05)


async def messages_and_statements(stack: RunningStack, program: dict[str, Any], count: int) -> str:
    """Messages and SQL statements for an intent, one client."""
    [log] = stack.data.glob("postgres*.log")
    admin = stack.endpoints.database_admin_url

    async def told(value: str) -> None:
        async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
            await connection.execute(f"alter system set log_statement = '{value}'")
            await connection.execute("select pg_reload_conf()")
        await asyncio.sleep(1)  # sessions read it with their next statement

    sent = await _sequence_numbers(stack)
    await told("all")
    written = log.stat().st_size
    for _ in range(count):
        await stack.client.run({"program": program})
    await asyncio.sleep(1)
    text = log.read_bytes()[written:]
    await told("none")
    after = await _sequence_numbers(stack)
    each = ", ".join(  # without the probe itself
        f"{name} {(after[name] - sent[name] - 1) / count:.1f}" for name in ENTITIES
    )
    statements = text.count(b"execute ") + text.count(b"statement: ")
    return f"messages: {each}   SQL statements {statements / count:.1f}"


async def _sequence_numbers(stack: RunningStack) -> dict[str, int]:
    """The next sequence number of each entity."""
    later = datetime.now(UTC) + timedelta(days=1)
    found = {}
    async with ServiceBusClient.from_connection_string(stack.endpoints.service_bus) as client:
        for entity in ENTITIES:
            async with client.get_queue_sender(entity) as sender:
                [number] = await sender.schedule_messages(ServiceBusMessage(b""), later)
                await sender.cancel_scheduled_messages(number)
                found[entity] = number
    return found


async def measure(runtime: str, count: int) -> None:
    """Print the figures of one sandbox runtime."""
    os.environ["QLP_SANDBOX_RUNTIMES"] = runtime
    with open_folder() as folder:
        async with running_stack(folder / "data") as stack:
            meter = Meter(stack)
            for language, (program, command) in PROGRAMS.items():
                floor = await plain(command, count)
                await by_clients(stack, program, CLIENTS * 2)
                await meter.start()
                rate, latencies = await by_clients(stack, program, count)
                costs = await meter.costs(count)
                p50, p99 = (percentile(latencies, p) * 1000 for p in (50, 99))
                print(
                    f"{runtime:<12} {language:<7} {CLIENTS} clients  {rate:5.1f} /s   "
                    f"p50 {p50:5.0f} ms   p99 {p99:5.0f} ms   "
                    f"{rate / floor:.2f} of plain subprocesses ({floor:.0f} /s), n={count}"
                )
                print(f"    {costs}")
            await meter.start()
            accepted, done = await by_producers(stack, PROGRAMS["shell"][0], count)
            print(
                f"{runtime:<12} shell   producers   {accepted:5.1f} /s accepted   "
                f"{done:5.1f} /s ended, n={count}"
            )
            print(f"    {await meter.costs(count)}")
            print(f"    {await messages_and_statements(stack, PROGRAMS['shell'][0], 20)}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--runtimes", nargs="+", default=["bubblewrap", "docker"])
    options = parser.parse_args()
    on_each_runtime(options.runtimes, lambda runtime: measure(runtime, options.count))


if __name__ == "__main__":
    main()
