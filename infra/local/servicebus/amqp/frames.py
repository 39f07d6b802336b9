"""AMQP 1.0 framing: splits a byte stream into protocol headers and frames.

Source: OASIS AMQP 1.0 part 2.2 and 2.3.
"""

from __future__ import annotations

import struct

from infra.local.servicebus.errors import ProtocolError

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
HEADER_BYTES = 8
AMQP_FRAME, SASL_FRAME = 0, 1
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"

_HEAD = struct.Struct(">IBBH")


class FrameReader:
    """Splits a byte stream into frames; buffers at most one incomplete frame and one read."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._pos = 0

    def feed(self, data: bytes) -> None:
        """Add data that was read from the socket."""
        if self._pos:
            del self._buffer[: self._pos]
            self._pos = 0
        self._buffer += data

    def protocol_header(self) -> bytes | None:
        """The next eight bytes, or None if they have not arrived yet."""
        if len(self._buffer) - self._pos < HEADER_BYTES:
            return None
        header = bytes(self._buffer[self._pos : self._pos + HEADER_BYTES])
        self._pos += HEADER_BYTES
        return header

    def peek(self, count: int) -> bytes:
        """Up to ``count`` of the next bytes, which stay in the buffer."""
        return bytes(self._buffer[self._pos : self._pos + count])

    def frame(self) -> tuple[int, int, bytes] | None:
        """The next frame as type, channel and body, or None if it is not complete yet.

        Raises:
            ProtocolError: ``amqp:connection:framing-error``.
        """
        available = len(self._buffer) - self._pos
        if available < HEADER_BYTES:
            return None
        size, offset, kind, channel = _HEAD.unpack_from(self._buffer, self._pos)
        if size < HEADER_BYTES or offset < 2 or offset * 4 > size:
            raise ProtocolError("amqp:connection:framing-error", "a frame header is malformed")
        if size > self._max_frame_bytes:
            raise ProtocolError(
                "amqp:connection:framing-error",
                f"a frame takes {size} bytes, max-frame-size is {self._max_frame_bytes}",
            )
        if available < size:
            return None
        start = self._pos + offset * 4
        self._pos += size
        return kind, channel, bytes(self._buffer[start : self._pos])


def encode_frame(channel: int, body: bytes, payload: bytes = b"", kind: int = AMQP_FRAME) -> bytes:
    """A frame with the shortest header."""
    return b"".join(
        (_HEAD.pack(HEADER_BYTES + len(body) + len(payload), 2, kind, channel), body, payload)
    )
