"""Waits out a short outage of the database instead of failing at once.

An abandoned Service Bus message comes back immediately, so failing fast on a restarting database
would spend all ten deliveries within a second and leave good messages in the dead-letter queue.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from domain.database import UNAVAILABLE

T = TypeVar("T")

#: Under the one minute for which the bus locks a message.
PATIENCE_SECONDS = 40.0

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The result of ``call``, which is repeated while the database cannot be reached.

    ``call`` must be safe to repeat: its transaction may have been committed before the connection
    was lost.

    Raises:
        psycopg.OperationalError, psycopg_pool.PoolTimeout: still out of reach after
            `PATIENCE_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    wait = _FIRST_WAIT
    while True:
        try:
            return await call()
        except UNAVAILABLE:
            if loop.time() + wait > deadline:
                raise
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 jitter, not a secret
        wait = min(wait * 2, _LONGEST_WAIT)
