"""A stream as of an earlier moment: its events up to then, and the state that they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any
from uuid import UUID

from domain.application.repository import IntentRepository
from domain.errors import OperationError
from domain.eventlog.intent_streams import UnreadableStream, folding
from domain.eventlog.models import RecordedEvent
from domain.intents.state import IntentState
from domain.operations.replay import NoSuchStream, ReplayStep
from domain.projections.intent_row import row_of

#: A version of the stream, or a time by the database's clock; None: now.
AsOf = int | datetime | None

_MAX_VERSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class StreamThen:
    """A stream as it was.

    Attributes:
        as_of: what was asked for.
        version: the version of the last event by then.
        latest_version: the stream's version now.
        state: the intent as clients saw it then, see `IntentRow.document`; if an event is
            unreadable, as it was before that event, and empty if that is the first.
        history: every event by then, up to an unreadable one, with the status after it.
        events: every event by then.
        unreadable: why this release cannot fold them all; None if it can.
    """

    intent_id: UUID
    tenant_id: str
    as_of: AsOf
    version: int
    latest_version: int
    state: dict[str, Any]
    history: list[ReplayStep]
    events: list[RecordedEvent]
    unreadable: str | None = None


def parse_as_of(text: str) -> int | datetime:
    """A version, or a time with its offset from UTC.

    Raises:
        OperationError: it is neither; the message says how either is written.
    """
    if text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= _MAX_VERSION:
        return int(text)
    return parse_time(text, "as-of", " or a version of the stream, from 1")


def parse_time(text: str, field: str, alternative: str = "") -> datetime:
    """An ISO 8601 time with its offset from UTC.

    Raises:
        OperationError: it is none, or has no offset; the message names ``field``.
    """
    example = f"such as 2026-03-01T12:00:00Z{alternative}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OperationError(f"{field}: {text[:80]!r} is not a time {example}") from None
    if moment.tzinfo is None:
        raise OperationError(f"{field}: {text[:80]!r} has no offset from UTC; write it {example}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise OperationError(
            f"{field}: {text[:80]!r} is out of range; write it {example}"
        ) from None


async def travel(repository: IntentRepository, intent_id: UUID, as_of: AsOf = None) -> StreamThen:
    """The stream of ``intent_id`` as it was at ``as_of``; only reads.

    A time includes the events recorded then or earlier, by the database's clock. From an event on
    that this release cannot fold, the events are there, but no states.

    Raises:
        NoSuchStream: the log has no such stream, or had none at that time.
        OperationError: the stream has not reached that version.
    """
    records = await repository.history(intent_id)
    if not records:
        raise NoSuchStream(f"the log has no events of intent {intent_id}")
    events = _until(records, as_of)
    state: IntentState | None = None
    history: list[ReplayStep] = []
    unreadable: str | None = None
    try:
        for record, state in folding(events):
            status = state.status.value
            history.append(ReplayStep(record.version, record.type, record.recorded_at, status))
    except UnreadableStream as error:
        unreadable = str(error)
    if not events:
        raise NoSuchStream(
            f"intent {intent_id} did not exist at {as_of}: "
            f"its first event was recorded at {records[0].recorded_at}"
        )
    return StreamThen(
        intent_id,
        records[0].tenant_id,
        as_of,
        events[-1].version,
        records[-1].version,
        row_of(state).document() if state is not None else {},
        history,
        events,
        unreadable,
    )


def _until(records: list[RecordedEvent], as_of: AsOf) -> list[RecordedEvent]:
    if as_of is None:
        return records
    if isinstance(as_of, datetime):
        # Always a prefix, even if the clock was set back: a state needs the first events.
        return list(takewhile(lambda record: record.recorded_at <= as_of, records))
    latest = records[-1].version
    if as_of > latest:
        raise OperationError(f"as-of: the stream's latest version is {latest}, not {as_of}")
    return [record for record in records if record.version <= as_of]
