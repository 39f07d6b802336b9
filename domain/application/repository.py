"""Loads intents from the event log and saves them, with their rows of the read model."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain.application.recent_states import RecentStates
from domain.eventlog.intent_streams import NEXT_STEP, folded, stream_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import AppendResult, InlineWrite, NewEvent, RecordedEvent
from domain.intents.events import IntentEvent
from domain.intents.ids import derived_id
from domain.intents.next_step import name_of, react
from domain.intents.state import IntentState
from domain.intents.struct import plain
from domain.projections.intent_row import row_of
from domain.projections.intents import upsert

_PAGE = 500


class IntentRepository:
    """Loads and saves intents; the read-model row changes in the transaction of the events."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._recent = RecentStates()

    async def history(self, intent_id: UUID) -> list[RecordedEvent]:
        """All events of an intent in order; empty if there is none."""
        records: list[RecordedEvent] = []
        while True:
            after = records[-1].version if records else 0
            page = await self._log.read_stream(stream_of(intent_id), after, _PAGE)
            records += page
            if len(page) < _PAGE:
                return records

    async def load(self, intent_id: UUID) -> IntentState | None:
        """The intent as its events tell it; None if there is none.

        Raises:
            UnreadableStream: this release cannot read its events.
        """
        state = folded(await self.history(intent_id))
        if state is not None:
            self._recent.put(state)
        return state

    def recent(self, intent_id: UUID) -> IntentState | None:
        """The intent as this process saw it last; None if it has not, or has forgotten it.

        Others may have changed it since, which an append after this state's version finds out.
        """
        return self._recent.get(intent_id)

    async def save(
        self,
        before: IntentState | None,
        after: IntentState,
        events: Sequence[IntentEvent],
        *,
        command_id: UUID,
        traceparent: str,
        extra: Sequence[InlineWrite] = (),
    ) -> AppendResult:
        """Append ``events``, which lead from one state to another, in one transaction with the row.

        Raises:
            WrongExpectedVersion: the stream has moved on since ``before`` was loaded.
        """
        result = await self._log.append(
            stream_of(after.id),
            after.tenant_id,
            before.version if before else 0,
            command_id,
            [
                NewEvent(
                    event_id=derived_id(command_id, str(index)),
                    type=event.type,
                    schema_version=event.schema_version,
                    data=plain(event),
                )
                for index, event in enumerate(events)
            ],
            {"traceparent": traceparent, NEXT_STEP: name_of(react(after))},
            [upsert(row_of(after)), *extra],
        )
        if not result.duplicate:
            self._recent.put(after)
        return result
