"""Publishes unfinished intents again that make no progress and have no message on the bus.

A message can be lost for good: a broker without durability restarts, an operator purges a queue.
The log still knows the intent is not finished. So if an intent has made no progress for a while,
the bus is looked at. A message in a queue merely waits, behind a thousand others or because nobody
consumes. A message that is not there is published again, under the same id. Each try without
progress doubles the wait, so that messages that are lost again and again do not fill the queues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence
from datetime import datetime, timedelta

from domain.application.repository import IntentRepository
from domain.eventlog.intent_streams import UnreadableStream, folded, stream_of, typed
from domain.eventlog.models import RecordedEvent
from domain.intents.events import SandboxRunRequested
from domain.intents.next_step import react
from domain.intents.state import IntentState
from domain.messaging.backlog import Backlog, LookFailed, Waiting
from domain.messaging.relay import Relay
from domain.projections.intents import IntentReads, StalledIntent

logger = logging.getLogger(__name__)

CLAIM = 200


class Recovery:
    """Finds stalled intents and publishes the messages again that they have lost."""

    def __init__(
        self,
        reads: IntentReads,
        repository: IntentRepository,
        relay: Relay,
        backlog: Backlog,
        clock: Callable[[], datetime],
        stalled_after: timedelta,
    ) -> None:
        self._reads = reads
        self._repository = repository
        self._relay = relay
        self._backlog = backlog
        self._clock = clock
        self._stalled_after = stalled_after

    async def run(self) -> int:
        """One sweep.

        Returns:
            the number of intents published again.

        Raises:
            PublishFailed: the bus did not take them; they come again in a later sweep.
        """
        claimed = await self._reads.claim_stalled(
            self._clock() - self._stalled_after, self._stalled_after, CLAIM
        )
        if not claimed:
            return 0
        # In this order, a message that leaves one place after it was looked at is seen in the next.
        unpublished = await self._relay.unpublished([stream_of(s.intent_id) for s in claimed])
        try:
            waiting = await self._backlog.look()
        except LookFailed as error:
            logger.warning(
                "%d intents make no progress; the bus cannot be seen: %s", len(claimed), error
            )
            return 0
        merely_waiting = []
        for stalled in claimed:
            lost = await self._lost(stalled, unpublished, waiting)
            if not lost:
                merely_waiting.append(stalled.intent_id)
                continue
            logger.warning(
                "intent %s has made no progress since version %d; publishing it again (%d)",
                stalled.intent_id,
                stalled.version,
                stalled.attempts,
            )
            await self._relay.publish(lost)
        await self._reads.release_waiting(merely_waiting, self._stalled_after)
        return len(claimed) - len(merely_waiting)

    async def _lost(
        self, stalled: StalledIntent, unpublished: Container[str], waiting: Waiting
    ) -> Sequence[RecordedEvent]:
        """The events whose messages are to be published again."""
        records = await self._repository.history(stalled.intent_id)
        last = records[-1]
        if last.version != stalled.version:
            return []  # it has made progress since
        if last.stream_id in unpublished:
            return []  # the relay has yet to publish it
        try:
            state = folded(records)
        except UnreadableStream:
            return [last]  # the relay records it as rejected, or a later release reads it
        if state is None or waiting.may_advance(stalled.intent_id):
            return []
        runs = _lost_runs(state, records, waiting)
        ours = react(state) is not None or not state.open_runs
        return [*runs, last] if ours and last not in runs else runs


def _lost_runs(
    state: IntentState, records: Sequence[RecordedEvent], waiting: Waiting
) -> list[RecordedEvent]:
    """The requests of runs whose jobs are lost."""
    awaited = {run.run_id: run for run in state.open_runs}
    lost = []
    for record in records:
        event = typed(record) if record.type == SandboxRunRequested.type else None
        run = awaited.get(event.run_id) if isinstance(event, SandboxRunRequested) else None
        if run is None:
            continue
        if not waiting.may_hold_job(run.run_id):
            lost.append(record)
    return lost
