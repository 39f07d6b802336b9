"""Producers' messages: intents a second from the queue into the log, and the CPU of each.

Everything that follows on an intent is switched off, so that only its way in is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from statistics import median

import psutil
import psycopg
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from infra.local.stack.stack import TENANT
from tests.benchmarks.parts import skip_without
from tests.support.stack import RunningStack, open_folder, running_stack, submission

BEHIND = ("advance_intent", "record_sandbox_result", "relay_events", "recover_stalled",
          "run_projections", "seal_log")  # fmt: skip
_PER_BATCH = 250


def _cpu_seconds(pid: int) -> float:
    return sum(psutil.Process(pid).cpu_times()[:2])


async def _accepted(connection: psycopg.AsyncConnection) -> int:
    cursor = await connection.execute("select count(*) from intents")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def backlog(stack: RunningStack, count: int) -> tuple[float, float]:
    """Send ``count`` intents; how many a second were accepted, and CPU seconds of one."""
    pid = stack.stack.children["functions"].pid
    assert pid is not None
    bodies = [json.dumps(submission(TENANT, {"text": f"number {n}"})) for n in range(count)]
    async with (
        await psycopg.AsyncConnection.connect(
            stack.endpoints.database_url, autocommit=True
        ) as connection,
        ServiceBusClient.from_connection_string(stack.endpoints.service_bus) as client,
        client.get_queue_sender("intents") as sender,
    ):
        before = await _accepted(connection)
        cpu, started = _cpu_seconds(pid), time.monotonic()
        for first in range(0, count, _PER_BATCH):
            batch = [ServiceBusMessage(body) for body in bodies[first : first + _PER_BATCH]]
            await sender.send_messages(batch)
        while await _accepted(connection) < before + count:
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - started
        return count / seconds, (_cpu_seconds(pid) - cpu) / count


async def measure(rounds: int, count: int) -> None:
    """Print the medians."""
    for name in BEHIND:
        os.environ[f"AzureWebJobs.{name}.Disabled"] = "1"
    with open_folder() as folder:
        async with running_stack(folder / "data") as stack:
            await backlog(stack, count)  # warms up
            measured = [await backlog(stack, count) for _ in range(rounds)]
    rate, cpu = (median(values) for values in zip(*measured, strict=True))
    print(f"{rate:6.0f} intents/s   {cpu * 1e3:6.2f} ms of CPU per intent")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000, help="intents per round")
    options = parser.parse_args()
    os.environ["QLP_SANDBOX_RUNTIMES"] = "bubblewrap"
    skip_without("bubblewrap")
    asyncio.run(measure(options.rounds, options.count))


if __name__ == "__main__":
    main()
