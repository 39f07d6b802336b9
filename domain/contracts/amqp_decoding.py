"""Completes the Service Bus SDK's decoder: types that it cannot read, or reads wrongly.

The SDK's decoder has no entry for ``char``, ``decimal32`` and ``decimal64``, and fails at most
values of ``decimal128``. A single property of such a type, which any producer may send, breaks
the link: nothing is received, and the message's lock has to expire before the next try. It decodes
a ``timestamp`` to a plain integer, which cannot be told from a ``long`` when it is sent on.

To settle a message or to peek at one, the SDK decodes the trace context in its properties
(``Diagnostic-Id``, ``traceparent``, ``tracestate``) as ASCII, even where nothing is traced. Other
bytes make that fail: the message is processed, cannot be completed, and is delivered again.

Source: OASIS AMQP 1.0 part 1.6; IEEE 754-2008 clause 3.5.2, binary encoding, for the decimals.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from azure.servicebus._common import tracing
from azure.servicebus._pyamqp import _decode as sdk

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_Decoder = Callable[..., tuple[memoryview, Any]]


class Timestamp(int):
    """Milliseconds since 1970-01-01 UTC; any 64-bit number."""


def complete_decoder() -> None:
    """Let every client of this process read all types that a producer may send."""
    tracing.TRACE_PROPERTY_ENCODING = "latin-1"  # decodes every byte
    sdk._DECODE_BY_CONSTRUCTOR[0x73] = _char
    sdk._DECODE_BY_CONSTRUCTOR[0x83] = _timestamp
    for code, bits in ((0x74, 32), (0x84, 64), (0x94, 128)):
        sdk._DECODE_BY_CONSTRUCTOR[code] = _decimal_decoder(bits)


def _char(buffer: memoryview, _depth: int = 0) -> tuple[memoryview, str]:
    """A UTF-32BE code point."""
    return buffer[4:], bytes(buffer[:4]).decode("utf-32-be", "replace") or _REPLACEMENT


def _timestamp(buffer: memoryview, _depth: int = 0) -> tuple[memoryview, Timestamp]:
    return buffer[8:], Timestamp(int.from_bytes(buffer[:8], "big", signed=True))


def _decimal_decoder(bits: int) -> _Decoder:
    def decode(buffer: memoryview, _depth: int = 0) -> tuple[memoryview, Decimal]:
        return buffer[bits // 8 :], decimal_of(int.from_bytes(buffer[: bits // 8], "big"), bits)

    return decode


def decimal_of(encoded: int, bits: int) -> Decimal:
    """The value of an IEEE 754 decimal of 32, 64 or 128 ``bits``."""
    digits, exponent_bits, bias = _FORMATS[bits]
    sign = encoded >> (bits - 1)
    below = bits - 1 - exponent_bits
    if encoded >> (bits - 5) & 0xF == 0xF:
        if encoded >> (bits - 6) & 1:
            return Decimal("NaN")
        return Decimal("-Infinity" if sign else "Infinity")
    leading = 0
    if encoded >> (bits - 3) & 3 == 3:  # the coefficient has an implicit leading 100
        below -= 2
        leading = 0b100 << below
    coefficient = leading | encoded & (1 << below) - 1
    if coefficient >= 10**digits:
        coefficient = 0  # a non-canonical encoding is zero
    exponent = (encoded >> below & (1 << exponent_bits) - 1) - bias
    return Decimal((sign, tuple(map(int, str(coefficient))), exponent))


#: By size in bits: digits of the coefficient, bits of the exponent, and the exponent's bias.
_FORMATS = {32: (7, 8, 101), 64: (16, 10, 398), 128: (34, 14, 6176)}
