from __future__ import annotations

from azure.servicebus._pyamqp._decode import decode_frame

from infra.local.servicebus.amqp.answers import (
    encode_begin,
    encode_disposition,
    encode_open,
    encode_transfer,
    modified_state,
)


def test_the_sdk_reads_our_hand_packed_frames() -> None:
    code, fields = decode_frame(memoryview(encode_transfer(3, 300, b"t" * 16, True, False) + b"p"))
    assert (code, fields[:6]) == (0x14, [3, 300, b"t" * 16, 0, True, False])
    assert bytes(fields[11]) == b"p"
    state = modified_state(delivery_failed=True, undeliverable_here=False)
    code, fields = decode_frame(memoryview(encode_disposition(False, 5, 5, state)))
    assert (code, fields[:4]) == (0x15, [False, 5, 5, True])
    assert list(fields[4]) == ["modified"]
    assert decode_frame(memoryview(encode_open("c", 65536, 63, 1000)))[1][2:5] == [65536, 63, 1000]
    assert decode_frame(memoryview(encode_begin(1, 0, 10, 255)))[1][:5] == [1, 0, 10, 10, 255]
