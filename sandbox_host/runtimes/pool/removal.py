"""Boxes that are being removed, in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

B = TypeVar("B")

#: How many boxes may be in removal when another job begins.
_MAX_REMOVALS = 16


class Removals:
    """The boxes of one runtime that are being removed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Run ``work``, which removes a box and does not raise."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait_until_few(self) -> None:
        """Wait while too many boxes are being removed; each still has memory and processes."""
        while len(self._tasks) >= _MAX_REMOVALS:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def wait_until_none(self) -> None:
        """Wait until all are removed."""
        while self._tasks:
            await asyncio.wait(self._tasks)


async def made_or_discarded(making: Coroutine[Any, Any, B], discard: Callable[[B], None]) -> B:
    """The box that ``making`` makes; if the caller is cancelled, it is discarded once made."""
    task = asyncio.create_task(making)

    def discard_made(made: asyncio.Task[B]) -> None:
        if not made.cancelled() and made.exception() is None:
            discard(made.result())

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(discard_made)
        raise
