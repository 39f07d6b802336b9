"""Messages that this release cannot take, and another one may: kept, and taken again by it.

What stands in the way is an event of a later release in an intent's stream, or what a newer sandbox
host says. Neither goes away while this code runs, so a process tries each message once; that of the
next release, or the next start after a repair, tries them all.
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

#: Messages taken again at one call, and how many a process remembers to have tried.
_AT_ONCE, _REMEMBERED = 200, 10_000

_RELAY = "relay/"

#: Takes a message's body; what it cannot take it sets aside again.
Handler = Callable[[str, bytes], Awaitable[None]]


def relay_source(event_id: UUID) -> str:
    """The source of a message that the log owes."""
    return f"{_RELAY}{event_id}"


class HeldMessages:
    """Takes held messages again.

    Args:
        rejected: where they are kept.
        handlers: by source, whoever takes what came from there.
        log: where events that could not be published are.
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
        """Take messages again that this process has not tried yet, oldest first.

        A crash repeats them, which is harmless.

        Returns:
            how many are not held any more.

        Raises:
            psycopg.OperationalError, PublishFailed: database or bus are away; the rest waits.
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
            raise LookupError(f"nobody takes messages from {message.source!r} here")
