"""The codec reads what it writes, and refuses what is not AMQP without harm."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from azure.servicebus._pyamqp._decode import _DECODE_BY_CONSTRUCTOR
from hypothesis import given
from hypothesis import strategies as st

from infra.local.servicebus.codec.decode import MAX_DEPTH, DecodeError, decode, skip
from infra.local.servicebus.codec.encode import encode
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

SCALARS = (
    st.none()
    | st.booleans()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.uuids()
    | st.text(st.characters(max_codepoint=127), max_size=300).map(Symbol)
    | st.integers(0, 255).map(UByte)
    | st.integers(0, 2**32 - 1).map(UInt)
    | st.integers(0, 2**64 - 1).map(ULong)
    | st.integers(-(2**31), 2**31 - 1).map(Int)
    | st.integers(-(2**63), 2**63 - 1).map(Long)
    | st.integers(-(2**63), 2**63 - 1).map(Timestamp)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=9), inner, max_size=5)
        | st.builds(Described, st.integers(0, 300).map(ULong), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_decodes_to_the_same(value: Any) -> None:
    encoded = encode(value)
    assert decode(encoded) == (value, len(encoded))
    assert skip(encoded, 0) == len(encoded)


@given(SCALARS)
def test_the_sdk_reads_what_we_write(value: Any) -> None:
    encoded = memoryview(encode(value))
    rest, decoded = _DECODE_BY_CONSTRUCTOR[encoded[0]](encoded[1:])
    assert len(rest) == 0
    assert decoded == (value.encode() if isinstance(value, str) else value)


@pytest.mark.parametrize("item", [Long(-5), Timestamp(2**40), Symbol("abc")])
def test_arrays_decode_to_lists(item: Any) -> None:
    encoded = encode(Array([item, item]))
    assert decode(encoded) == ([item, item], len(encoded))


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    for function in (decode, lambda raw: skip(raw, 0)):
        read: Callable[[bytes], object] = function
        try:
            read(data)
        except DecodeError:
            continue


@given(VALUES, st.data())
def test_truncated_values_are_refused(value: Any, data: st.DataObject) -> None:
    encoded = encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(DecodeError):
        decode(encoded[:cut])


def test_nesting_is_bounded() -> None:
    value: Any = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert decode(encode(value))[0] == value
    with pytest.raises(DecodeError, match="nested deeper"):
        decode(encode([[value]]))
    with pytest.raises(DecodeError):
        decode(b"\x00" * 5000)


@pytest.mark.parametrize(
    "data",
    [
        b"\xd0\x00\x00\x00\x04\xff\xff\xff\xff",  # 4 billion items in no bytes
        b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40",  # 4 billion nulls
        b"\xf0\x00\x00\x00\x05\x00\x00\x00\x01\x45",  # an element without width
        b"\xc1\x04\x01\xa1\x01a",  # a key without a value
        b"\xc1\x03\x02\x45\x40",  # a list as key
        b"\xa1\x01\xff",  # not UTF-8
        b"\xa3\x01\xff",  # not ASCII
        b"\xc0\x03\x01\x40\x40",  # size and items disagree
        b"\x3f",
    ],
)
def test_malformed_values_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


def test_a_plain_int_is_refused_as_ambiguous() -> None:
    with pytest.raises(TypeError, match="int has no unambiguous AMQP type"):
        encode(5)
    assert encode(uuid.UUID(int=1))[0] == 0x98
