"""Background tasks that end with a run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine


def in_background(running: contextlib.AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Run ``work`` as a task that is cancelled when ``running`` exits."""
    task = asyncio.create_task(work)

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    running.push_async_callback(stop)


async def when(event: asyncio.Event, act: Callable[[], None]) -> None:
    """Call ``act`` when ``event`` is set."""
    await event.wait()
    act()
