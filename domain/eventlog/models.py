"""What goes into the event log and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """How far a follower has read: everything up to and with this event.

    The order of events is that of ``(transaction_id, position)``. Position alone would lose
    events: numbers are given out before their transactions commit.
    """

    transaction_id: int
    position: int

    @classmethod
    def start(cls) -> Checkpoint:
        """Before the first event."""
        return cls(0, 0)

    def params(self, prefix: str = "") -> dict[str, Any]:
        """The parameters ``transaction_id``, as text for ``::xid8``, and ``position``."""
        return {
            f"{prefix}transaction_id": str(self.transaction_id),
            f"{prefix}position": self.position,
        }


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append.

    Attributes:
        event_id: unique in the log; derive it from the command's id, so that repeating the
            command repeats the id.
        data: a JSON object, as a dict or already encoded in UTF-8.
    """

    event_id: UUID
    type: str
    schema_version: int
    data: dict[str, Any] | bytes


class RecordedEvent(NamedTuple):
    """An event as it stands in the log; its JSON is parsed by those who need it.

    Attributes:
        position: unique in the log, growing, with gaps; see `Checkpoint` for the order.
        transaction_id: of the transaction that appended it.
        version: in its stream: 1, 2, 3, … without gaps.
        recorded_at: time of the append by the database's clock.
        metadata_json: of the command that caused it, for example ``traceparent``.
        data_json: what happened.
    """

    position: int
    transaction_id: int
    event_id: UUID
    stream_id: str
    version: int
    type: str
    schema_version: int
    tenant_id: str
    command_id: UUID
    recorded_at: datetime
    metadata_json: str
    data_json: str

    @property
    def metadata(self) -> dict[str, Any]:
        """``metadata_json``, parsed anew each time."""
        parsed: dict[str, Any] = orjson.loads(self.metadata_json)
        return parsed

    @property
    def data(self) -> dict[str, Any]:
        """``data_json``, parsed anew each time."""
        parsed: dict[str, Any] = orjson.loads(self.data_json)
        return parsed

    @property
    def traceparent(self) -> str | None:
        """Of the metadata; None where there is none, or they are not what we record."""
        try:
            found = self.metadata["traceparent"]
        except (ValueError, LookupError, TypeError):
            return None
        return found if isinstance(found, str) else None

    @property
    def raw_json(self) -> dict[str, orjson.Fragment]:
        """Metadata and data for `orjson.dumps`, exactly as stored: they need not be readable."""
        return {
            "metadata": orjson.Fragment(self.metadata_json),
            "data": orjson.Fragment(self.data_json),
        }

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of a follower that has processed this event."""
        return Checkpoint(self.transaction_id, self.position)


@dataclass(frozen=True, slots=True)
class InlineWrite:
    """A statement to run in the transaction of an append, with psycopg's parameters."""

    statement: bytes
    params: Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The events of a command; ``duplicate``: they had been recorded before."""

    events: list[RecordedEvent]
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a follower is behind.

    Attributes:
        events: readable and not read yet, counted up to `domain.eventlog.log.MAX_COUNTED`.
        seconds: age of the oldest of them.
        horizon_held_seconds: how long the oldest committed event has been unreadable because an
            older transaction, anywhere in the server, is still open.
    """

    events: int
    seconds: float
    horizon_held_seconds: float


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream as operators list it."""

    stream_id: str
    tenant_id: str
    version: int
    first_at: datetime
    last_at: datetime


class EventLogError(Exception):
    """Base of the event log's own errors."""


class WrongExpectedVersion(EventLogError):
    """The stream has moved on, or is not as far yet, as the writer believed."""

    def __init__(self, stream_id: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream_id!r} is at version {actual}, not {expected}")
        self.stream_id = stream_id
        self.expected = expected
        self.actual = actual


class StreamOfAnotherTenant(EventLogError):
    """The stream belongs to another tenant than the one the events are for."""


class EventIdTaken(EventLogError):
    """An event id of the command is in the log already, under another command."""


class InvalidEvent(EventLogError, ValueError):
    """The events or their metadata cannot be recorded; names the field and the fix."""
