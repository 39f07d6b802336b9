"""Converts events to rows and back: the only place that knows the serialised form.

Protection of personal fields (encryption per data subject) would belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from domain.eventlog.models import InvalidEvent, NewEvent, RecordedEvent

MAX_EVENT_BYTES = 1024**2
MAX_EVENTS = 500
MAX_STREAM_ID = 200
MAX_TYPE = 120


class EncodedEvent(NamedTuple):
    """A new event in its stored form: ``data`` is JSON text."""

    event_id: UUID
    type: str
    schema_version: int
    data: str


def encode(events: Sequence[NewEvent]) -> list[EncodedEvent]:
    """``events`` in their stored form.

    Raises:
        InvalidEvent: no or too many events, or one is too large or cannot be written as JSON.
    """
    if not 1 <= len(events) <= MAX_EVENTS:
        raise InvalidEvent(f"events: {len(events)} in one command, allowed are 1 to {MAX_EVENTS}")
    return [_encode(event) for event in events]


def _encode(event: NewEvent) -> EncodedEvent:
    if not 1 <= len(event.type) <= MAX_TYPE or not 1 <= event.schema_version < 2**15:
        raise InvalidEvent(
            f"type: 1 to {MAX_TYPE} characters, schema_version: 1 to {2**15 - 1}, "
            f"not {event.type[:MAX_TYPE]!r} and {event.schema_version}"
        )
    data = encode_object(event.data, f"data of {event.type}")
    return EncodedEvent(event.event_id, event.type, event.schema_version, data)


def encode_object(value: dict[str, Any] | bytes, what: str) -> str:
    """``value`` as JSON text; bytes are taken as JSON already.

    Raises:
        InvalidEvent: not serialisable (a lone surrogate, an integer over 64 bits, …) or too large.
    """
    try:
        encoded = value if isinstance(value, bytes) else orjson.dumps(value)
        text = encoded.decode()
    except (TypeError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"{what}: cannot be written as JSON: {error}") from None
    if len(encoded) > MAX_EVENT_BYTES:
        raise InvalidEvent(f"{what}: {len(encoded)} bytes, the limit is {MAX_EVENT_BYTES}")
    return text


def decode(row: Sequence[Any]) -> RecordedEvent:
    """The event of a row with the columns of `RecordedEvent`."""
    return RecordedEvent._make(row)


def decode_all(rows: Iterable[Sequence[Any]]) -> list[RecordedEvent]:
    """The events of rows, each as `decode` makes it."""
    return list(map(RecordedEvent._make, rows))
