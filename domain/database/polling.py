"""Lets many requests wait for something in the database at the price of one query now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Seen = TypeVar("Seen")


@dataclass(eq=False, slots=True)
class _Waiter(Generic[Key, Seen]):
    key: Key
    done: Callable[[Seen], bool]
    moved: asyncio.Event = field(default_factory=asyncio.Event)


class Watcher(Generic[Key, Seen]):
    """Waits for conditions on what is found under keys, whichever process fulfils them.

    Args:
        look: what is found now under each of the keys; keys with nothing are left out.
        seconds: between two looks, for all waiters of this process together.
    """

    def __init__(
        self, look: Callable[[set[Key]], Awaitable[Mapping[Key, Seen]]], seconds: float
    ) -> None:
        self._look = look
        self._seconds = seconds
        self._waiters: set[_Waiter[Key, Seen]] = set()
        self._poller: asyncio.Task[None] | None = None

    def tell(self, found: Mapping[Key, Seen]) -> None:
        """Take what this process just learned: it spares the waiters the next look."""
        for waiter in self._waiters:
            now = found.get(waiter.key)
            if now is not None and waiter.done(now):
                waiter.moved.set()

    async def wait(self, key: Key, done: Callable[[Seen], bool], timeout: float) -> bool:
        """Wait until ``done`` holds for what is under ``key``, at most ``timeout`` seconds.

        Returns:
            whether it came to hold.
        """
        waiter = _Waiter(key, done)
        self._waiters.add(waiter)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="watcher")
        poller = self._poller
        moved = asyncio.create_task(waiter.moved.wait())
        try:
            await asyncio.wait({moved, poller}, timeout=timeout, return_when="FIRST_COMPLETED")
            if not waiter.moved.is_set() and poller.done():
                poller.result()  # the database went away: the waiting request must learn it
            return waiter.moved.is_set()
        finally:
            moved.cancel()
            self._waiters.discard(waiter)

    async def _poll(self) -> None:
        while self._waiters:
            self.tell(await self._look({waiter.key for waiter in self._waiters}))
            await asyncio.sleep(self._seconds)
