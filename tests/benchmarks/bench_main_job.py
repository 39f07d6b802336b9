"""From submission to success of a one-line Python program, one client, with the share of each hop.

The floor is the same program as a plain subprocess, measured between the intents.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import defaultdict
from datetime import datetime
from typing import Any

from tests.benchmarks.parts import on_each_runtime
from tests.benchmarks.statistics_of import percentile
from tests.support.stack import Client, open_folder, running_stack

PROGRAM = {"language": "python", "files": {"main.py": "print(6 * 7)"}}


async def plain_subprocess() -> float:
    """Milliseconds of the program alone."""
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", "print(6 * 7)"), stdout=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    return (time.perf_counter() - started) * 1000


async def one_intent(client: Client) -> tuple[float, dict[str, float]]:
    """Milliseconds from request to outcome, and those of each hop."""
    sent, started = time.time(), time.perf_counter()
    intent = await client.run({"program": PROGRAM})
    total = (time.perf_counter() - started) * 1000
    events = await client.events(intent["id"])
    at = {e["type"]: datetime.fromisoformat(e["recorded_at"]).timestamp() for e in events}
    program = intent["outcome"]["usage"]["wall_ms"]
    sandbox = (at["SandboxRunFinished"] - at["SandboxRunRequested"]) * 1000
    hops = {
        "HTTP → accepted, planned and requested": (at["SandboxRunRequested"] - sent) * 1000,
        "→ job queue → box, and result back": sandbox - program,
        "the program itself": program,
    }
    hops["→ response"] = total - sum(hops.values())
    return total, hops


async def measure(runtime: str, count: int) -> None:
    """Print the figures of one sandbox runtime."""
    os.environ["QLP_SANDBOX_RUNTIMES"] = runtime
    with open_folder() as folder:
        async with running_stack(folder / "data") as stack:
            for _ in range(5):
                await one_intent(stack.client)
            totals, floor, hops = [], [], defaultdict(list)
            for _ in range(count):
                floor.append(await plain_subprocess())
                total, parts = await one_intent(stack.client)
                totals.append(total)
                for name, value in parts.items():
                    hops[name].append(value)
    _report(runtime, totals, floor, hops)


def _report(runtime: str, totals: list[float], floor: list[float], hops: Any) -> None:
    p50, p95 = percentile(totals, 50), percentile(totals, 95)
    base = percentile(floor, 50)
    print(
        f"{runtime:<12} submit → succeeded  p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   "
        f"{p50 / base:4.1f} × plain subprocess ({base:.1f} ms), n={len(totals)}"
    )
    for name, values in hops.items():
        share = percentile(values, 50)
        print(f"    {name:<42} {share:6.1f} ms  {share / p50:5.0%}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--runtimes", nargs="+", default=["bubblewrap", "docker"])
    options = parser.parse_args()
    on_each_runtime(options.runtimes, lambda runtime: measure(runtime, options.count))


if __name__ == "__main__":
    main()
