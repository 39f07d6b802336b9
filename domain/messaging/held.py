"""Messages that this release cannot process but another may: kept, and processed by that one.

The obstacle is an event of a later release in an intent's stream, or a result of a newer sandbox
host. Neither goes away while this code runs, so a process tries each message once; a process of the
next release, or one started after a repair, tries them all.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from domain.database.outages import outage_of
from domain.eventlog.log import EventLog
from domain.messaging.publisher import PublishFailed
from domain.messaging.rejected import RejectedMessage, RejectedMessages
from domain.messaging.relay import Relay

logger = logging.getLogger(__name__)

#: The most messages tried in one call, and how many tried ones a process remembers.
_AT_ONCE, _REMEMBERED = 200, 10_000

_RELAY = "relay/"

#: Processes a message, given its source and body; holds it again if it cannot.
Handler = Callable[[str, bytes], Awaitable[None]]


def relay_source(event_id: UUID) -> str:
    """The source recorded for an event whose messages could not be published."""
    return f"{_RELAY}{event_id}"


class HeldMessages:
    """Processes held messages again.

    Args:
        rejected: where they are kept.
        handlers: by source, what processes the messages from there.
        log: holds the events that could not be published.
        relay: publishes them.
    """

    def __init__(
        self,
        rejected: RejectedMessages,
        handlers: Mapping[str, Handler],
        log: EventLog,
        relay: Relay,
    ) -> None:
        self._rejected = rejected
        self._handlers = handlers
        self._log = log
        self._relay = relay
        self._tried: set[UUID] = set()

    async def retake(self) -> int:
        """Process the messages that this process has not tried yet, oldest first.

        A crash repeats them, which is harmless.

        Returns:
            how many are no longer held.

        Raises:
            psycopg.OperationalError, PublishFailed: the database or the bus cannot be reached; the
                rest waits.
        """
        if len(self._tried) >= _REMEMBERED:
            self._tried.clear()
        taken = 0
        for message in await self._rejected.held([*self._tried], _AT_ONCE):
            try:
                await self._take(message)
            except PublishFailed:
                raise
            except Exception as error:
                if outage_of(error) is not None:
                    raise
                logger.exception("held message %s from %s", message.id, message.source)
            else:
                taken += await self._rejected.release(message)
            self._tried.add(message.id)
        if taken:
            logger.info("%d held messages were taken", taken)
        return taken

    async def _take(self, message: RejectedMessage) -> None:
        if message.source.startswith(_RELAY):
            record = await self._log.event(UUID(message.source.removeprefix(_RELAY)))
            await self._relay.publish([record] if record is not None else [])
        elif message.source in self._handlers:
            await self._handlers[message.source](message.source, message.body)
        else:
            raise LookupError(f"nothing processes messages from {message.source!r} here")
