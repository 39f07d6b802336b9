"""Values of application properties, in a form that can be sent again.

The SDK encodes every int as a 32-bit one and has no way to write some of what it can read, so a
copy of a received message has to state the AMQP types.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.contracts.amqp_decoding import Timestamp

#: What `sendable` returns: plain values, and numbers with their AMQP type.
AmqpValue = str | bytes | bool | int | float | UUID | Decimal | datetime | dict[str, Any] | None

_INT, _LONG, _ULONG = 2**31, 2**63, 2**64


def sendable(properties: Mapping[str, object]) -> dict[str, AmqpValue]:
    """``properties`` ready to be sent, without lists and maps, which AMQP does not allow here."""
    return {
        name: _typed(value)
        for name, value in properties.items()
        if value is None or isinstance(value, _SIMPLE)
    }


_SIMPLE = (str, bytes, int, float, UUID, Decimal, datetime)


def _typed(value: Any) -> AmqpValue:  # noqa: ANN401 one of _SIMPLE
    if isinstance(value, bool):
        return value
    if isinstance(value, Timestamp):
        return _of("TIMESTAMP", int(value))
    if isinstance(value, int):
        return _number(int(value))
    if isinstance(value, bytes):
        return _of("BINARY", value)
    if isinstance(value, Decimal) and not value.is_finite():
        return str(value)
    result: AmqpValue = value
    return result


def _number(value: int) -> AmqpValue:
    if -_INT <= value < _INT:
        return value
    if -_LONG <= value < _LONG:
        return _of("LONG", value)
    return _of("ULONG", value) if 0 <= value < _ULONG else str(value)


def _of(amqp_type: str, value: int | bytes) -> dict[str, Any]:
    return {"TYPE": amqp_type, "VALUE": value}
