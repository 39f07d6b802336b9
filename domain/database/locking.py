"""Repeats what needs a table lock that others may be holding."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg import errors as pg

T = TypeVar("T")

#: Between two attempts, in seconds: those who queued behind the attempt's lock get through.
PAUSE_SECONDS = 0.5


async def retry_locking(attempt: Callable[[], Awaitable[T | None]], tries: int) -> T | None:
    """The first result of ``attempt`` that is not None; None if no try gave one.

    A try that ends in a lock timeout or a deadlock is followed by a pause, one that returns None
    at once by the next try.

    Args:
        attempt: one transaction at least, with a ``lock_timeout`` of its own.
        tries: how many to make at most.
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
