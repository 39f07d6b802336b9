"""AMQP 1.0 types: decoding of untrusted bytes.

Source: OASIS AMQP 1.0 part 1 (types).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

from infra.local.servicebus.codec.types import Described, Symbol

#: Limit on the nesting of lists, maps, arrays and described values; the SDK's decoder allows 64.
MAX_DEPTH = 32


class DecodeError(ValueError):
    """The bytes are not a valid AMQP value."""


def decode(buf: bytes, pos: int = 0) -> tuple[Any, int]:
    """Decode one value at ``pos``.

    Returns:
        The value, and the position after it.

    Raises:
        DecodeError: the value is truncated, nested deeper than ``MAX_DEPTH``, or not AMQP.
    """
    try:
        return _decode(buf, pos, 0)
    except (IndexError, struct.error):
        raise DecodeError("the value is truncated") from None
    except UnicodeDecodeError as error:
        raise DecodeError(f"a string is not valid {error.encoding}") from None


def skip(buf: bytes, pos: int) -> int:
    """Return the position after the value at ``pos``, without decoding it.

    The upper four bits of an AMQP constructor give the width of what follows (part 1.2), so this
    takes the same time for any value.

    Raises:
        DecodeError: the value is truncated, or does not start with a constructor.
    """
    try:
        while buf[pos] == 0x00:
            pos = _skip_primitive(buf, pos + 1)
        return _skip_primitive(buf, pos)
    except (IndexError, struct.error):
        raise DecodeError("the value is truncated") from None


def described_fields(buf: bytes) -> list[bytes]:
    """The fields, still encoded, of an encoded described list; none for any other value.

    Raises:
        DecodeError: the list is truncated.
    """
    if buf[:1] != b"\x00":
        return []
    start = skip(buf, 1)
    header, count_at = {0xC0: (3, slice(2, 3)), 0xD0: (9, slice(5, 9))}.get(
        buf[start], (0, slice(0, 0))
    )
    count = int.from_bytes(buf[start:][count_at], "big")
    fields, pos = [], start + header
    for _ in range(count):
        end = skip(buf, pos)
        fields.append(buf[pos:end])
        pos = end
    return fields


_FIXED_WIDTHS = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}
_U32 = struct.Struct(">I")
_U32_PAIR = struct.Struct(">II")


def _skip_primitive(buf: bytes, pos: int) -> int:
    code = buf[pos]
    pos += 1
    category = code >> 4
    width = _FIXED_WIDTHS.get(category)
    if width is not None:
        end = pos + width
    elif category in (0xA, 0xC, 0xE):
        end = pos + 1 + buf[pos]
    elif category in (0xB, 0xD, 0xF):
        end = pos + 4 + int(_U32.unpack_from(buf, pos)[0])
    else:
        raise DecodeError(f"0x{code:02x} is not an AMQP type")
    if end > len(buf):
        raise DecodeError("the value is truncated")
    return end


def _decode(buf: bytes, pos: int, depth: int) -> tuple[Any, int]:
    code = buf[pos]
    decoder = _DECODERS.get(code)
    if decoder is None:
        raise DecodeError(f"0x{code:02x} is not an AMQP type")
    return decoder(buf, pos + 1, depth)


_Decoder = Callable[[bytes, int, int], tuple[Any, int]]


def _constant(value: object) -> _Decoder:
    return lambda _buf, pos, _depth: (value, pos)


def _fixed(layout: str) -> _Decoder:
    unpack = struct.Struct(layout)

    def decoder(buf: bytes, pos: int, _depth: int) -> tuple[Any, int]:
        return unpack.unpack_from(buf, pos)[0], pos + unpack.size

    return decoder


def _boolean(buf: bytes, pos: int, _depth: int) -> tuple[bool, int]:
    return buf[pos] == 1, pos + 1


def _raw(width: int) -> _Decoder:
    def decoder(buf: bytes, pos: int, _depth: int) -> tuple[bytes, int]:
        return _slice(buf, pos, width)

    return decoder


def _uuid(buf: bytes, pos: int, _depth: int) -> tuple[uuid.UUID, int]:
    raw, pos = _slice(buf, pos, 16)
    return uuid.UUID(bytes=raw), pos


def _slice(buf: bytes, pos: int, width: int) -> tuple[bytes, int]:
    end = pos + width
    if end > len(buf):
        raise DecodeError("the value is truncated")
    return buf[pos:end], end


def _variable(wide: bool, convert: Callable[[bytes], Any]) -> _Decoder:
    def decoder(buf: bytes, pos: int, _depth: int) -> tuple[Any, int]:
        if wide:
            raw, pos = _slice(buf, pos + 4, _U32.unpack_from(buf, pos)[0])
        else:
            raw, pos = _slice(buf, pos + 1, buf[pos])
        return convert(raw), pos

    return decoder


def _compound_bounds(buf: bytes, pos: int, wide: bool, depth: int) -> tuple[int, int, int]:
    """The positions of a compound value's first element and of its end, and its element count."""
    if depth >= MAX_DEPTH:
        raise DecodeError(f"values are nested deeper than {MAX_DEPTH}")
    if wide:
        size, count = _U32_PAIR.unpack_from(buf, pos)
        start, end = pos + 8, pos + 4 + size
    else:
        size, count = buf[pos], buf[pos + 1]
        start, end = pos + 2, pos + 1 + size
    if end > len(buf) or start > end:
        raise DecodeError("the value is truncated")
    if count > end - start:  # every element takes at least one byte
        raise DecodeError("a compound value has more elements than bytes")
    return start, end, count


def _list(wide: bool) -> _Decoder:
    def decoder(buf: bytes, pos: int, depth: int) -> tuple[list[Any], int]:
        pos, end, count = _compound_bounds(buf, pos, wide, depth)
        items = []
        for _ in range(count):
            item, pos = _decode(buf, pos, depth + 1)
            items.append(item)
        if pos != end:
            raise DecodeError("a list is shorter than its size")
        return items, end

    return decoder


def _map(wide: bool) -> _Decoder:
    decode_list = _list(wide)

    def decoder(buf: bytes, pos: int, depth: int) -> tuple[dict[Any, Any], int]:
        items, end = decode_list(buf, pos, depth)
        if len(items) % 2:
            raise DecodeError("a map has a key without a value")
        try:
            return dict(zip(items[::2], items[1::2], strict=True)), end
        except TypeError:
            raise DecodeError("a map key is a compound value") from None

    return decoder


def _array(wide: bool) -> _Decoder:
    def decoder(buf: bytes, pos: int, depth: int) -> tuple[list[Any], int]:
        pos, end, count = _compound_bounds(buf, pos, wide, depth)
        code = buf[pos]
        element = _DECODERS.get(code)
        # With elements of zero width, a few bytes could declare billions of elements.
        if element is None or code >> 4 in (0x0, 0x4):
            raise DecodeError(f"arrays of 0x{code:02x} are not supported")
        pos += 1
        items = []
        for _ in range(count):
            item, pos = element(buf, pos, depth + 1)
            items.append(item)
        if pos != end:
            raise DecodeError("an array is shorter than its size")
        return items, end

    return decoder


def _described(buf: bytes, pos: int, depth: int) -> tuple[Described, int]:
    if depth >= MAX_DEPTH:
        raise DecodeError(f"values are nested deeper than {MAX_DEPTH}")
    descriptor, pos = _decode(buf, pos, depth + 1)
    value, pos = _decode(buf, pos, depth + 1)
    return Described(descriptor, value), pos


def _symbol(raw: bytes) -> Symbol:
    return Symbol(raw.decode("ascii"))


def _string(raw: bytes) -> str:
    return raw.decode("utf-8")


_DECODERS: dict[int, _Decoder] = {
    0x00: _described,
    0x40: _constant(None),
    0x41: _constant(True),
    0x42: _constant(False),
    0x43: _constant(0),
    0x44: _constant(0),
    0x45: lambda _buf, pos, _depth: ([], pos),
    0x50: _fixed(">B"),
    0x51: _fixed(">b"),
    0x52: _fixed(">B"),
    0x53: _fixed(">B"),
    0x54: _fixed(">b"),
    0x55: _fixed(">b"),
    0x56: _boolean,
    0x60: _fixed(">H"),
    0x61: _fixed(">h"),
    0x70: _fixed(">I"),
    0x71: _fixed(">i"),
    0x72: _fixed(">f"),
    0x73: _fixed(">I"),
    0x74: _raw(4),
    0x80: _fixed(">Q"),
    0x81: _fixed(">q"),
    0x82: _fixed(">d"),
    0x83: _fixed(">q"),
    0x84: _raw(8),
    0x94: _raw(16),
    0x98: _uuid,
    0xA0: _variable(False, bytes),
    0xA1: _variable(False, _string),
    0xA3: _variable(False, _symbol),
    0xB0: _variable(True, bytes),
    0xB1: _variable(True, _string),
    0xB3: _variable(True, _symbol),
    0xC0: _list(False),
    0xC1: _map(False),
    0xD0: _list(True),
    0xD1: _map(True),
    0xE0: _array(False),
    0xF0: _array(True),
}
