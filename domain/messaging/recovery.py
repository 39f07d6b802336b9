"""Publishes again what the log says is unfinished and no longer moves.

A message can be lost for good: a broker without durability restarts, an operator purges a queue.
The log still knows the intent is not finished. So an intent that has made no progress for a while
has its last event's messages published again, under the same ids: where the queue detects
duplicates and the first one still lies there, nothing happens; where it is gone, the intent moves
on. Each try without progress doubles the wait, so a long outage does not fill the queues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from domain.messaging.relay import Relay
from domain.projections.intents import IntentReads
from domain.repository import IntentRepository

logger = logging.getLogger(__name__)

CLAIM = 200


class Recovery:
    """Finds intents that no longer move and publishes their last event again."""

    def __init__(
        self,
        reads: IntentReads,
        repository: IntentRepository,
        relay: Relay,
        clock: Callable[[], datetime],
        stalled_after: timedelta,
    ) -> None:
        self._reads = reads
        self._repository = repository
        self._relay = relay
        self._clock = clock
        self._stalled_after = stalled_after

    async def run(self) -> int:
        """One sweep.

        Returns:
            the number of intents published again.
        """
        claimed = await self._reads.claim_stalled(
            self._clock() - self._stalled_after, self._stalled_after, CLAIM
        )
        for stalled in claimed:
            records = await self._repository.history(stalled.intent_id)
            logger.warning(
                "intent %s has not moved since version %d; publishing it again (%d)",
                stalled.intent_id,
                stalled.version,
                stalled.attempts,
            )
            await self._relay.publish(records[-1:])
        return len(claimed)
