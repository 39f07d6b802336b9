"""Frames are cut out of what arrives, and bad ones are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.servicebus.amqp.frames import FrameReader, encode_frame
from infra.local.servicebus.errors import ProtocolError


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 30))
def test_frames_are_cut_out_of_any_chunks(bodies: list[bytes], size: int) -> None:
    stream = b"".join(encode_frame(index, body) for index, body in enumerate(bodies))
    reader = FrameReader(1000)
    seen = []
    for start in range(0, len(stream), size):
        reader.feed(stream[start : start + size])
        while (frame := reader.frame()) is not None:
            seen.append(frame)
    assert seen == [(0, index, body) for index, body in enumerate(bodies)]


@pytest.mark.parametrize("head", ["7fffffff02000000", "0000000702000000", "0000001001000000"])
def test_bad_frame_headers_are_refused_before_their_bodies_arrive(head: str) -> None:
    reader = FrameReader(1000)
    reader.feed(bytes.fromhex(head))
    with pytest.raises(ProtocolError):
        reader.frame()
