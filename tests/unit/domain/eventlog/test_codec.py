"""The serialised form of events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.database.paging import decode_cursor, encode_cursor
from domain.eventlog.codec import MAX_EVENTS, decode, encode, encode_object
from domain.eventlog.models import InvalidEvent, NewEvent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_encoded_decodes_to_the_same(data: dict[str, Any]) -> None:
    event_id = uuid4()
    [encoded] = encode([NewEvent(event_id, "T", 2, data)])
    now = datetime.now(UTC)
    row = (event_id, "s", 1, "T", 2, "acme", event_id, now, "{}", encoded.data)
    event = decode(row)
    assert event.data == data


def test_bytes_are_taken_as_they_are() -> None:
    assert encode_object(b'{"a": 1}', "data") == '{"a": 1}'


def test_the_number_of_events_of_a_command_is_bounded() -> None:
    event = NewEvent(uuid4(), "T", 1, {})
    assert len(encode([event] * MAX_EVENTS)) == MAX_EVENTS
    for count in (0, MAX_EVENTS + 1):
        with pytest.raises(InvalidEvent, match=f"events: {count}"):
            encode([event] * count)


@given(
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)),
    st.uuids(),
)
def test_a_cursor_gives_back_the_row_it_was_made_for(moment: datetime, row_id: UUID) -> None:
    assert decode_cursor(encode_cursor(moment, row_id)) == (moment, row_id)
