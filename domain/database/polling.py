"""Lets many requests wait for changes in the database with one shared, periodic query."""

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
    """Waits for conditions on the values of keys, whichever process fulfils them.

    Args:
        look: queries the current values of keys; keys without a value are left out.
        seconds: between two queries for all waiters of this process together.
    """

    def __init__(
        self, look: Callable[[set[Key]], Awaitable[Mapping[Key, Seen]]], seconds: float
    ) -> None:
        self._look = look
        self._seconds = seconds
        self._waiters: set[_Waiter[Key, Seen]] = set()
        self._poller: asyncio.Task[None] | None = None

    def tell(self, found: Mapping[Key, Seen]) -> None:
        """Pass on values that this process just learned, ahead of the next query."""
        for waiter in self._waiters:
            now = found.get(waiter.key)
            if now is not None and waiter.done(now):
                waiter.moved.set()

    async def wait(self, key: Key, done: Callable[[Seen], bool], timeout: float) -> bool:
        """Wait until ``done`` holds for the value of ``key``, at most ``timeout`` seconds.

        Returns:
            whether it holds.
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
                poller.result()  # raises the error of the query in the waiting request
            return waiter.moved.is_set()
        finally:
            moved.cancel()
            self._waiters.discard(waiter)

    async def _poll(self) -> None:
        while self._waiters:
            self.tell(await self._look({waiter.key for waiter in self._waiters}))
            await asyncio.sleep(self._seconds)
