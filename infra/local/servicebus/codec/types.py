"""Python types for the AMQP 1.0 types that Python lacks.

Source: OASIS AMQP 1.0 part 1 (types). Decoded integers are plain ``int``. To encode
one, wrap it in a type below (``UInt(5)``): Python has one integer type, and AMQP several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Symbol(str):
    """An ASCII identifier (``symbol``)."""

    __slots__ = ()


class UByte(int):
    """``ubyte``."""


class UInt(int):
    """``uint``."""


class ULong(int):
    """``ulong``."""


class Int(int):
    """``int``."""


class Long(int):
    """``long``."""


class Timestamp(int):
    """Milliseconds since 1970-01-01 UTC."""


class Described(NamedTuple):
    """A value with a descriptor, for example a performative or a terminus."""

    descriptor: Any
    value: Any


class Array(NamedTuple):
    """A non-empty array whose elements have the AMQP type of the first one."""

    items: Sequence[Symbol | Long | Timestamp]
