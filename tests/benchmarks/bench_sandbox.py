"""Latency of one ``print(1)`` per runtime, beside a plain Python process.

``python -m tests.benchmarks.bench_sandbox [RUNS]``
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from domain.sandbox.contract import Verdict
from sandbox_host.runtimes.base import Runtime
from sandbox_host.runtimes.bubblewrap import BubblewrapRuntime
from sandbox_host.runtimes.docker import DockerRuntime
from tests.fixtures.sandbox import prepared

_PYTHON = "/usr/bin/python3"


async def plain() -> None:
    """Run the program without any sandbox."""
    process = await asyncio.create_subprocess_exec(
        *(_PYTHON, "-c", "print(1)"), stdout=asyncio.subprocess.PIPE
    )
    await process.communicate()


def in_runtime(runtime: Runtime) -> Callable[[], Awaitable[None]]:
    """Run it in a box."""

    async def run() -> None:
        result = await runtime.run(prepared("print(1)"))
        assert result.verdict is Verdict.SUCCEEDED, result

    return run


async def measure(name: str, work: Callable[[], Awaitable[None]], runs: int) -> None:
    """Print median and 95th percentile, milliseconds."""
    await work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        await work()
        times.append((time.perf_counter() - began) * 1e3)
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"{name:22} {statistics.median(times):8.1f} {p95:8.1f}")


async def compare(runs: int) -> None:
    """Measure everything that is ready here."""
    print(f"{'':22} {'median':>8} {'p95':>8}   ms, {runs} runs")
    await measure("plain python", plain, runs)
    candidates: dict[str, Runtime] = {
        "bubblewrap": BubblewrapRuntime(),
        "bubblewrap, rlimits": BubblewrapRuntime(use_cgroups=False),
        "docker": DockerRuntime(),
    }
    for name, runtime in candidates.items():
        readiness = await runtime.preflight()
        if readiness.ready:
            await measure(name, in_runtime(runtime), runs)
        else:
            print(f"{name:22} not ready: {readiness.reason}")
        await runtime.aclose()


def main() -> None:
    """Command line."""
    asyncio.run(compare(int(sys.argv[1]) if len(sys.argv) > 1 else 50))


if __name__ == "__main__":
    main()
