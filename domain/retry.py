"""Waits out a short outage instead of failing at once.

An abandoned Service Bus message comes back immediately, so failing fast on a restarting database
would spend all ten deliveries within a second and leave good messages in the dead-letter queue.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from domain.database.migrate import MigrationError
from domain.database.outages import describe_outage, outage_of
from domain.settings import InvalidSettings

T = TypeVar("T")

#: How long a call is repeated, seconds; less than the minute for which the bus locks a message.
RETRY_SECONDS = 40.0

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0


def reason_to_wait(error: BaseException) -> str | None:
    """What must end before the same work can be done, in one line; None: waiting does not help.

    That is an outage of the database, a pending migration of its schema, or a wrong setting: none
    of them is the fault of whoever sent the work.
    """
    if outage_of(error) is not None:
        return describe_outage(error)
    if isinstance(error, MigrationError | InvalidSettings):
        return f"not configured: {error}"
    return None


async def retry_while_unavailable(call: Callable[[], Awaitable[T]]) -> T:
    """The result of ``call``, which is repeated while there is a `reason_to_wait`.

    ``call`` must be safe to repeat: its transaction may have been committed before the connection
    was lost.

    Raises:
        what ``call`` raised last, after `RETRY_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + RETRY_SECONDS
    wait = _FIRST_WAIT
    while True:
        try:
            return await call()
        except Exception as error:
            if reason_to_wait(error) is None or loop.time() + wait > deadline:
                raise
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 jitter, not a secret
        wait = min(wait * 2, _LONGEST_WAIT)


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled after ``seconds`` without waiting for its end.

    To cancel a statement, a connection asks the server, and waits up to ten seconds if the server
    is silent.

    Raises:
        TimeoutError: it took longer.
        what ``work`` raises.
    """
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_ended)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        raise TimeoutError
    return task.result()


#: The tasks of `within`: the event loop alone does not keep a task alive.
_running: set[asyncio.Task[Any]] = set()


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved: nobody may be waiting for it any more
