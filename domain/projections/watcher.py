"""Lets requests wait for events of an intent, without a query per waiting request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol
from uuid import UUID

from domain.database.polling import Watcher

#: Between two queries of the read model for all waiting requests together, in seconds.
POLL_SECONDS = 0.05


class Versions(Protocol):
    """The part of the read model that the watcher queries."""

    async def versions(self, intent_ids: Iterable[UUID]) -> dict[UUID, tuple[int, str]]:
        """Version and status of each known intent."""


class IntentWatcher:
    """Waits for conditions on intents, whichever process fulfils them.

    Events are appended by any instance, and a NOTIFY in the append would cost more than the append
    itself. So one query per `POLL_SECONDS` serves all waiters of a process, and `hint` removes even
    that delay when the event was appended in this process.
    """

    def __init__(self, versions: Versions) -> None:
        self._watcher: Watcher[UUID, tuple[int, str]] = Watcher(versions.versions, POLL_SECONDS)

    def hint(self, intent_id: UUID, version: int, status: str) -> None:
        """Tell the waiters that this process committed an event of ``intent_id``."""
        self._watcher.tell({intent_id: (version, status)})

    async def wait(self, intent_id: UUID, done: Callable[[int, str], bool], timeout: float) -> bool:
        """Wait until ``done(version, status)`` holds, at most ``timeout`` seconds.

        Returns:
            whether it holds.
        """
        return await self._watcher.wait(intent_id, lambda seen: done(*seen), timeout)
