"""Parts that benchmarks need. What a machine lacks is skipped, in one line, and is no failure."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import NoReturn

from sandbox_host.runtimes.base import Runtime
from sandbox_host.runtimes.choice import RuntimeOptions, make_runtime
from sandbox_host.settings import RuntimeName


def skip(reason: str) -> NoReturn:
    """End the benchmark with a line that says why, and with success."""
    print(f"skipped: {reason}")
    sys.exit(0)


@contextlib.asynccontextmanager
async def opened(name: RuntimeName, options: RuntimeOptions) -> AsyncIterator[Runtime | str]:
    """A runtime that is ready, or why it is not and what to do about it."""
    runtime = make_runtime(name, options)
    try:
        readiness = await runtime.preflight()
        why_not = "; ".join(filter(None, (readiness.reason, readiness.fix)))
        yield runtime if readiness.ready else why_not
    finally:
        await runtime.aclose()


def skip_without(name: RuntimeName) -> None:
    """Skip the benchmark where a runtime cannot be used."""
    if reason := asyncio.run(missing(name)):
        skip(f"{name}: {reason}")


async def missing(name: RuntimeName) -> str | None:
    """Why a runtime cannot be used on this machine; None if it can."""
    async with opened(name, RuntimeOptions(pool_memory_bytes=0)) as runtime:
        return runtime if isinstance(runtime, str) else None


def on_each_runtime(
    names: Iterable[RuntimeName], measure: Callable[[RuntimeName], Coroutine[None, None, None]]
) -> None:
    """Measure on each runtime that can be used on this machine; of others, print why not."""
    for name in names:
        if reason := asyncio.run(missing(name)):
            print(f"{name:<12} skipped: {reason}")
        else:
            asyncio.run(measure(name))
