"""Data types of the event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append.

    Attributes:
        event_id: unique in the log; derive it from the command's id, so that a repeated command
            has the same event ids.
        data: a JSON object, as a dict or already encoded in UTF-8.
    """

    event_id: UUID
    type: str
    schema_version: int
    data: dict[str, Any] | bytes


class RecordedEvent(NamedTuple):
    """An event as stored in the log; its JSON is parsed only when it is needed.

    Attributes:
        version: its number in the stream: 1, 2, 3, … without gaps.
        recorded_at: time of the append by the database's clock.
        metadata_json: metadata of the command that caused it, for example ``traceparent``.
        data_json: what happened.
    """

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
        """``metadata_json``, parsed at each access."""
        parsed: dict[str, Any] = orjson.loads(self.metadata_json)
        return parsed

    @property
    def data(self) -> dict[str, Any]:
        """``data_json``, parsed at each access."""
        parsed: dict[str, Any] = orjson.loads(self.data_json)
        return parsed

    @property
    def traceparent(self) -> str | None:
        """The metadata's ``traceparent``; None if there is none, or it cannot be read."""
        try:
            found = self.metadata["traceparent"]
        except (ValueError, LookupError, TypeError):
            return None
        return found if isinstance(found, str) else None

    @property
    def raw_json(self) -> dict[str, orjson.Fragment]:
        """Metadata and data for `orjson.dumps`, exactly as stored, without parsing them."""
        return {
            "metadata": orjson.Fragment(self.metadata_json),
            "data": orjson.Fragment(self.data_json),
        }


@dataclass(frozen=True, slots=True)
class InlineWrite:
    """A statement to run in the transaction of an append, with psycopg's parameters."""

    statement: bytes
    params: Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The events of a command; ``duplicate``: they were recorded before."""

    events: list[RecordedEvent]
    duplicate: bool


class LaneLag(NamedTuple):
    """How far a follower is behind in one lane: events, and the age of the first in seconds."""

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a follower is behind.

    Attributes:
        lanes: by number, those with events that it has not processed.
    """

    lanes: Mapping[int, LaneLag]

    @property
    def events(self) -> int:
        """Events that it has not processed."""
        return sum(lane.events for lane in self.lanes.values())

    @property
    def seconds(self) -> float:
        """Age of the oldest of them; 0 if there are none."""
        return max((lane.seconds for lane in self.lanes.values()), default=0.0)

    @property
    def oldest(self) -> int | None:
        """The lane in which the oldest of them lies."""
        return max(self.lanes, key=lambda lane: self.lanes[lane].seconds, default=None)


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
    """The stream is at another version than the writer expected."""

    def __init__(self, stream_id: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream_id!r} is at version {actual}, not {expected}")
        self.stream_id = stream_id
        self.expected = expected
        self.actual = actual


class StreamOfAnotherTenant(EventLogError):
    """The stream belongs to another tenant."""


class EventIdTaken(EventLogError):
    """An event id of the command is already in the log, under another command."""


class InvalidEvent(EventLogError, ValueError):
    """The events or their metadata cannot be recorded; names the field and the fix."""
