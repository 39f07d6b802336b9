"""Tasks that run beside others: until a run ends, or until an event is set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")


def in_background(
    running: contextlib.AsyncExitStack,
    work: Coroutine[None, None, None],
    if_it_fails: Callable[[], object],
) -> None:
    """Run ``work`` as a task that is cancelled when ``running`` exits.

    If it ends with an error, that is raised then; what it held must not go on without it, so
    ``if_it_fails`` is called at once.
    """
    task = asyncio.create_task(work)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            if_it_fails()

    task.add_done_callback(ended)

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    running.push_async_callback(stop)


async def unless_set(event: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of ``work``; None if ``event`` is set first, which cancels the work.

    Work that ends with a result although it is cancelled is not lost: its result is returned.
    """
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
    return None if working.cancelled() else working.result()


async def when(event: asyncio.Event, act: Callable[[], None]) -> None:
    """Call ``act`` when ``event`` is set."""
    await event.wait()
    act()
