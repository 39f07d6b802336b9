"""Any frame body is parsed or refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.local.servicebus.amqp.answers import performative
from infra.local.servicebus.amqp.performatives import Flow, parse
from infra.local.servicebus.codec.types import UInt
from infra.local.servicebus.errors import ProtocolError


@given(st.binary(max_size=100))
def test_any_frame_body_parses_or_is_refused(body: bytes) -> None:
    for data in (body, b"\x00\x53\x13" + body):
        try:
            parse(data)
        except ProtocolError:
            continue


def test_short_performatives_are_filled_up_and_long_ones_cut() -> None:
    frame, end = parse(performative(0x13, None, UInt(1), UInt(2), UInt(3)) + b"payload")
    assert isinstance(frame, Flow)
    assert (frame.incoming_window, frame.handle, frame.drain) == (1, None, None)
    assert end == len(performative(0x13, None, UInt(1), UInt(2), UInt(3)))
