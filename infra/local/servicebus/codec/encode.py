"""AMQP 1.0 types: encoding.

Source: OASIS AMQP 1.0 part 1 (types).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infra.local.servicebus.codec.types import (
    Array,
    Described,
    Int,
    Long,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
)

_U32 = struct.Struct(">I")
_U32_PAIR = struct.Struct(">II")


def encode(value: object) -> bytes:
    """Encode ``None``, ``bool``, ``str``, ``bytes``, ``UUID``, lists, maps and the wrapper types.

    Raises:
        TypeError: a plain ``int``, or another type with no unambiguous AMQP type.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise TypeError(f"{type(value).__name__} has no unambiguous AMQP type")
    return encoder(value)


def encode_sized(code8: int, code32: int, raw: bytes) -> bytes:
    """A variable-width value: constructor, length and ``raw``, in the shorter possible form."""
    if len(raw) < 256:
        return bytes((code8, len(raw))) + raw
    return bytes((code32,)) + _U32.pack(len(raw)) + raw


def encode_compound(code8: int, code32: int, count: int, raw: bytes) -> bytes:
    """A list or map: constructor, size, count and the encoded elements ``raw``."""
    if len(raw) < 255 and count < 256:
        return bytes((code8, len(raw) + 1, count)) + raw
    return bytes((code32,)) + _U32_PAIR.pack(len(raw) + 4, count) + raw


def encode_list(items: Sequence[Any]) -> bytes:
    """A list, in the shorter possible form."""
    return encode_compound(0xC0, 0xD0, len(items), b"".join([encode(item) for item in items]))


def _encode_map(items: Mapping[Any, Any]) -> bytes:
    raw = b"".join([encode(part) for pair in items.items() for part in pair])
    return encode_compound(0xC1, 0xD1, 2 * len(items), raw)


def _encode_described(value: Described) -> bytes:
    return b"\x00" + encode(value.descriptor) + encode(value.value)


_ARRAY_ELEMENTS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    Long: (0x81, struct.Struct(">q").pack),
    Timestamp: (0x83, struct.Struct(">q").pack),
    Symbol: (0xB3, lambda item: _U32.pack(len(item)) + item.encode("ascii")),
}


def _encode_array(value: Array) -> bytes:
    code, pack = _ARRAY_ELEMENTS[type(value.items[0])]
    raw = bytes((code,)) + b"".join([pack(item) for item in value.items])
    return b"\xf0" + _U32_PAIR.pack(len(raw) + 4, len(value.items)) + raw


def _packer(code: int, layout: str) -> Callable[[Any], bytes]:
    pack = struct.Struct(">B" + layout).pack
    return lambda value: pack(code, value)


def _encode_uint(value: int) -> bytes:
    return bytes((0x52, value)) if value < 256 else b"\x70" + _U32.pack(value)


_encode_wide_ulong = _packer(0x80, "Q")


def _encode_ulong(value: int) -> bytes:
    return bytes((0x53, value)) if value < 256 else _encode_wide_ulong(value)


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _value: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    str: lambda value: encode_sized(0xA1, 0xB1, value.encode("utf-8")),
    Symbol: lambda value: encode_sized(0xA3, 0xB3, value.encode("ascii")),
    bytes: lambda value: encode_sized(0xA0, 0xB0, value),
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    UByte: _packer(0x50, "B"),
    UInt: _encode_uint,
    ULong: _encode_ulong,
    Int: _packer(0x71, "i"),
    Long: _packer(0x81, "q"),
    Timestamp: _packer(0x83, "q"),
    list: encode_list,
    dict: _encode_map,
    Described: _encode_described,
    Array: _encode_array,
}
