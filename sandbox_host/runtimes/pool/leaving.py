"""Boxes on their way out: what is left to do with them goes on in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

B = TypeVar("B")

#: Boxes that may be on their way out before another job is begun.
_MAX_LEAVING = 16


class Leaving:
    """Those of one runtime."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Have ``work`` done, which does not raise."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def thinned(self) -> None:
        """Wait while too many boxes are leaving: each still has its memory and processes."""
        while len(self._tasks) >= _MAX_LEAVING:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def settled(self) -> None:
        """Wait until none is."""
        while self._tasks:
            await asyncio.wait(self._tasks)


async def made_or_discarded(making: Coroutine[Any, Any, B], discard: Callable[[B], None]) -> B:
    """The box that is made; where the caller is cancelled, it is discarded once it is there."""
    task = asyncio.create_task(making)

    def discard_made(made: asyncio.Task[B]) -> None:
        if not made.cancelled() and made.exception() is None:
            discard(made.result())

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(discard_made)
        raise
