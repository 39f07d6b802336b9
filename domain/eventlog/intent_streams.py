"""Streams of intents: their names, typed events and states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from domain.eventlog.models import RecordedEvent
from domain.intents.events import (
    POISON,
    IntentEvent,
    NewerEvent,
    UnknownEvent,
    UnreadableEvent,
    revive,
)
from domain.intents.evolve import CorruptStream, evolve
from domain.intents.state import IntentState

STREAM_PREFIX = "intent-"

#: In an event's metadata: the step that the intent calls for after the command, as
#: `domain.intents.next_step.name_of` names it. Events of before 0.3 do not have it.
NEXT_STEP = "next_step"


def stream_of(intent_id: UUID) -> str:
    """The stream that holds an intent's events."""
    return f"{STREAM_PREFIX}{intent_id}"


def intent_of(stream_id: str) -> UUID:
    """The intent of a stream.

    Raises:
        ValueError: the stream is not an intent's.
    """
    if not stream_id.startswith(STREAM_PREFIX):
        raise ValueError(f"{stream_id!r} is not the stream of an intent")
    return UUID(stream_id.removeprefix(STREAM_PREFIX))


def typed(record: RecordedEvent) -> IntentEvent | UnknownEvent:
    """The domain event of a record; see `EventRegistry.revive`."""
    return revive(record.type, record.schema_version, record.data_json)


class UnreadableStream(ValueError):
    """The events of an intent cannot be folded by this release, which can decide nothing about it.

    A later release may be able to. The message says why, without personal data.

    Attributes:
        tenant_id: the stream's owner.
    """

    def __init__(self, record: RecordedEvent, error: Exception) -> None:
        says_why = isinstance(error, NewerEvent | UnreadableEvent | CorruptStream)
        why = str(error) if says_why else type(error).__name__
        super().__init__(f"{record.stream_id}, event {record.version}: {why}")
        self.tenant_id = record.tenant_id


def folding(records: Iterable[RecordedEvent]) -> Iterator[tuple[RecordedEvent, IntentState]]:
    """Each event of a stream with the state after it; ``records`` begin with the first event.

    Raises:
        UnreadableStream: at the event that cannot be folded.
    """
    state: IntentState | None = None
    for version, record in enumerate(records, 1):
        try:
            if record.version != version:
                raise CorruptStream(f"event {version} is missing")
            state = evolve(state, typed(record))
        except POISON as error:
            raise UnreadableStream(record, error) from error
        yield record, state


def folded(records: Iterable[RecordedEvent]) -> IntentState | None:
    """The state after all events of a stream; None for an empty one.

    Raises:
        UnreadableStream: at the event that cannot be folded.
    """
    state: IntentState | None = None
    for _, state in folding(records):  # noqa: B007 the last one counts
        continue
    return state
