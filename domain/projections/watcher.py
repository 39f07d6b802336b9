"""Lets requests wait for an intent to move, without a query per waiting request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

#: How often the read model is asked, for all waiting requests together, in seconds.
POLL_SECONDS = 0.05


class Versions(Protocol):
    """The part of the read model that the watcher asks."""

    async def versions(self, intent_ids: Iterable[UUID]) -> dict[UUID, tuple[int, str]]:
        """Version and status of each known intent."""


@dataclass(eq=False, slots=True)
class _Waiter:
    intent_id: UUID
    done: Callable[[int, str], bool]
    moved: asyncio.Event = field(default_factory=asyncio.Event)


class IntentWatcher:
    """Waits for conditions on intents, whichever process fulfils them.

    Events are appended by any instance, and a NOTIFY inside the append would cost more than the
    append itself; so one query per `POLL_SECONDS` serves all waiters of a process, and `hint`
    spares even that delay when the event was appended here.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._waiters: set[_Waiter] = set()
        self._poller: asyncio.Task[None] | None = None

    def hint(self, intent_id: UUID, version: int, status: str) -> None:
        """An event of ``intent_id`` was committed by this process."""
        self._tell({intent_id: (version, status)})

    async def wait(self, intent_id: UUID, done: Callable[[int, str], bool], timeout: float) -> bool:
        """Wait until ``done(version, status)`` holds, at most ``timeout`` seconds.

        Returns:
            whether it came to hold.
        """
        waiter = _Waiter(intent_id, done)
        self._waiters.add(waiter)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="intent-watcher")
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
            ids = {waiter.intent_id for waiter in self._waiters}
            self._tell(await self._versions.versions(ids))
            await asyncio.sleep(POLL_SECONDS)

    def _tell(self, versions: dict[UUID, tuple[int, str]]) -> None:
        for waiter in self._waiters:
            now = versions.get(waiter.intent_id)
            if now is not None and waiter.done(*now):
                waiter.moved.set()
