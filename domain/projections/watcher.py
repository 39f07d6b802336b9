"""Lets requests wait for an intent to move, without a query per waiting request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol
from uuid import UUID

from domain.database.polling import Watcher

#: How often the read model is asked, for all waiting requests together, in seconds.
POLL_SECONDS = 0.05


class Versions(Protocol):
    """The part of the read model that the watcher asks."""

    async def versions(self, intent_ids: Iterable[UUID]) -> dict[UUID, tuple[int, str]]:
        """Version and status of each known intent."""


class IntentWatcher:
    """Waits for conditions on intents, whichever process fulfils them.

    Events are appended by any instance, and a NOTIFY inside the append would cost more than the
    append itself; so one query per `POLL_SECONDS` serves all waiters of a process, and `hint`
    spares even that delay when the event was appended here.
    """

    def __init__(self, versions: Versions) -> None:
        self._watcher: Watcher[UUID, tuple[int, str]] = Watcher(versions.versions, POLL_SECONDS)

    def hint(self, intent_id: UUID, version: int, status: str) -> None:
        """An event of ``intent_id`` was committed by this process."""
        self._watcher.tell({intent_id: (version, status)})

    async def wait(self, intent_id: UUID, done: Callable[[int, str], bool], timeout: float) -> bool:
        """Wait until ``done(version, status)`` holds, at most ``timeout`` seconds.

        Returns:
            whether it came to hold.
        """
        return await self._watcher.wait(intent_id, lambda seen: done(*seen), timeout)
