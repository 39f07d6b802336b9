"""Gives a job a box of its own, and another if that one dies before the program starts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from sandbox_host.runtimes.base import BoxGone, RunResult, RuntimeFailure
from sandbox_host.runtimes.pool.pool import Box, BoxPool
from sandbox_host.runtimes.pool.removal import Removals, made_or_discarded

log = logging.getLogger(__name__)

#: Boxes that may die before a job's program starts, until the job is given up.
_TRIES = 4

B = TypeVar("B", bound=Box)
DiscardedBox = TypeVar("DiscardedBox", contravariant=True)


class Discarder(Protocol[DiscardedBox]):
    """Removes boxes in the background.

    Attributes:
        removals: the boxes that are being removed.
    """

    removals: Removals

    def discard(self, box: DiscardedBox) -> None:
        """Begin to remove a box; returns at once."""
        ...


async def run_in_a_box(
    pool: BoxPool[B],
    language: str,
    discarder: Discarder[B],
    run: Callable[[B, bool], Awaitable[RunResult]],
    make: Callable[[], Coroutine[Any, Any, B]] | None = None,
) -> RunResult:
    """Run one job in a box of its own.

    Args:
        pool: of waiting boxes.
        language: whose boxes in the pool fit the job.
        discarder: removes the box after the job.
        run: runs the job in a box, given whether the box was waiting.
        make: makes a box for this job alone, because none of the pool's fits it.

    Raises:
        InvalidJob: see `Runtime.run`.
        RuntimeFailure: no box can be made, or each died before the program started.
    """
    for _ in range(_TRIES):
        try:
            return await _try(pool, language, discarder, run, make)
        except BoxGone as gone:
            log.warning("a box died before the program started; taking another: %s", gone)
    raise RuntimeFailure(f"{_TRIES} boxes died before the program started")


async def _try(
    pool: BoxPool[B],
    language: str,
    discarder: Discarder[B],
    run: Callable[[B, bool], Awaitable[RunResult]],
    make: Callable[[], Coroutine[Any, Any, B]] | None,
) -> RunResult:
    await discarder.removals.wait_until_few()
    if make is not None:
        box, warm = await made_or_discarded(make(), discarder.discard), False
    else:
        box, warm = await pool.take(language)
    try:
        return await run(box, warm)
    finally:
        discarder.discard(box)
        if make is None:
            pool.done()
