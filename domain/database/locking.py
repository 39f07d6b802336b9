"""Repeats transactions that need a lock on a table while others are using it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg import errors as pg

T = TypeVar("T")

#: Pause before the next try, in seconds, in which those who queued behind this one get the lock.
PAUSE_SECONDS = 0.5


async def retry_locking(attempt: Callable[[], Awaitable[T | None]], tries: int) -> T | None:
    """Call ``attempt`` until it returns something, at most ``tries`` times; None if it never did.

    After a lock timeout or a deadlock the next try follows after a pause, after None at once.

    Args:
        attempt: runs a transaction with a short ``lock_timeout``; None: not done, try again.
        tries: most calls of ``attempt``.
    """
    for _ in range(tries):
        try:
            result = await attempt()
        except (pg.LockNotAvailable, pg.DeadlockDetected):
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        if result is not None:
            return result
    return None
