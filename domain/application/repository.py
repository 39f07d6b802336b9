"""Loads intents from the event log and saves them, with their rows of the read model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.eventlog.intent_streams import folded, stream_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, NewEvent, RecordedEvent
from domain.intents.events import (
    IntentEvent,
)
from domain.intents.evolve import fold
from domain.intents.ids import derived_id
from domain.intents.state import IntentState
from domain.intents.struct import plain
from domain.projections.intent_row import row_of
from domain.projections.intents import upsert

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Saved:
    """What `IntentRepository.save` did.

    Attributes:
        records: the events of the command, recorded now or before.
        duplicate: the command had been recorded before; nothing was written.
        state: the intent after the given events; for a duplicate, not what the log says.
    """

    records: list[RecordedEvent]
    duplicate: bool
    state: IntentState


class IntentRepository:
    """Loads and saves intents; the read-model row changes in the transaction of the events."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

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
        return folded(await self.history(intent_id))

    async def save(
        self,
        before: IntentState | None,
        events: Sequence[IntentEvent],
        *,
        command_id: UUID,
        traceparent: str,
        extra: Sequence[InlineWrite] = (),
    ) -> Saved:
        """Append ``events`` and update the read model, in one transaction.

        Raises:
            WrongExpectedVersion: the stream has moved on since ``before`` was loaded.
        """
        after = fold(events, before)
        if after is None:
            raise ValueError("nothing to save")
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
            {"traceparent": traceparent},
            [upsert(row_of(after)), *extra],
        )
        return Saved(result.events, result.duplicate, after)
