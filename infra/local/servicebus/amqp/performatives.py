"""AMQP 1.0 performatives: codes, and parsing with type checks.

Source: OASIS AMQP 1.0 part 2.7 (performatives) and 5.3.3 (SASL).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from infra.local.servicebus.codec.decode import DecodeError, decode
from infra.local.servicebus.codec.types import Described
from infra.local.servicebus.errors import ProtocolError

OPEN, BEGIN, ATTACH, FLOW, TRANSFER = 0x10, 0x11, 0x12, 0x13, 0x14
DISPOSITION, DETACH, END, CLOSE = 0x15, 0x16, 0x17, 0x18
SASL_MECHANISMS, SASL_INIT, SASL_OUTCOME = 0x40, 0x41, 0x44
ERROR, SOURCE, TARGET, COORDINATOR = 0x1D, 0x28, 0x29, 0x30
RECEIVED, ACCEPTED, REJECTED, RELEASED, MODIFIED = 0x23, 0x24, 0x25, 0x26, 0x27

_UINT_MAX = 2**32 - 1


class Open(NamedTuple):
    """The peer's connection parameters."""

    container_id: str
    hostname: str | None
    max_frame_size: int | None
    channel_max: int | None
    idle_time_out: int | None


class Begin(NamedTuple):
    """The peer's session parameters."""

    remote_channel: int | None
    next_outgoing_id: int
    incoming_window: int
    outgoing_window: int


class Attach(NamedTuple):
    """A link that the peer asks for. ``role`` is True if the peer receives."""

    name: str
    handle: int
    role: bool
    snd_settle_mode: int | None
    rcv_settle_mode: int | None
    source: Described | None
    target: Described | None


class Flow(NamedTuple):
    """The session window and, with a handle, link credit."""

    next_incoming_id: int | None
    incoming_window: int
    next_outgoing_id: int
    outgoing_window: int
    handle: int | None
    delivery_count: int | None
    link_credit: int | None
    available: int | None
    drain: bool | None
    echo: bool | None


class Transfer(NamedTuple):
    """One frame of a delivery."""

    handle: int
    delivery_id: int | None
    delivery_tag: bytes | None
    message_format: int | None
    settled: bool | None
    more: bool | None
    rcv_settle_mode: int | None
    state: Described | None
    resume: bool | None
    aborted: bool | None


class Disposition(NamedTuple):
    """The outcome of deliveries ``first`` to ``last``; ``role``: whether the peer received them."""

    role: bool
    first: int
    last: int | None
    settled: bool | None
    state: Described | None


class Detach(NamedTuple):
    """The end of a link."""

    handle: int
    closed: bool | None


class End(NamedTuple):
    """The end of a session."""


class Close(NamedTuple):
    """The end of a connection."""


class SaslInit(NamedTuple):
    """The mechanism that the peer chose, and its first response."""

    mechanism: str
    initial_response: bytes | None


Performative = (
    Open | Begin | Attach | Flow | Transfer | Disposition | Detach | End | Close | SaslInit
)


def _is_uint(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= _UINT_MAX


def _instance_of(kind: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kind)


_BOOL, _STR, _BYTES, _DESCRIBED = map(_instance_of, (bool, str, bytes, Described))

#: By code: the type, a check for each field, and a bit mask of the mandatory fields.
_CHECKS: dict[
    int, tuple[Callable[..., Performative], tuple[Callable[[object], bool], ...], int]
] = {
    OPEN: (Open, (_STR, _STR, _is_uint, _is_uint, _is_uint), 0b1),
    BEGIN: (Begin, (_is_uint,) * 4, 0b1110),
    ATTACH: (Attach, (_STR, _is_uint, _BOOL, _is_uint, _is_uint, _DESCRIBED, _DESCRIBED), 0b111),
    FLOW: (Flow, (_is_uint,) * 8 + (_BOOL, _BOOL), 0b1110),
    TRANSFER: (
        Transfer,
        (_is_uint, _is_uint, _BYTES, _is_uint, _BOOL, _BOOL, _is_uint, _DESCRIBED, _BOOL, _BOOL),
        0b1,
    ),
    DISPOSITION: (Disposition, (_BOOL, _is_uint, _is_uint, _BOOL, _DESCRIBED), 0b11),
    DETACH: (Detach, (_is_uint, _BOOL), 0b1),
    END: (End, (), 0),
    CLOSE: (Close, (), 0),
    SASL_INIT: (SaslInit, (_STR, _BYTES), 0b1),
}


def parse(body: bytes) -> tuple[Performative, int]:
    """Parse the performative of a frame body.

    Returns:
        The performative, and the position of the payload after it.

    Raises:
        ProtocolError: it is no performative, or a field is missing or of the wrong type.
    """
    try:
        value, pos = decode(body)
    except DecodeError as error:
        raise ProtocolError("amqp:decode-error", str(error)) from None
    if not (isinstance(value, Described) and isinstance(value.value, list)):
        raise ProtocolError("amqp:decode-error", "a frame does not start with a performative")
    shape = _CHECKS.get(value.descriptor) if isinstance(value.descriptor, int) else None
    if shape is None:
        raise ProtocolError("amqp:not-implemented", "a frame contains an unknown performative")
    build, checks, mandatory = shape
    fields = value.value[: len(checks)]
    fields += [None] * (len(checks) - len(fields))
    for index, check in enumerate(checks):
        field = fields[index]
        if field is None:
            if mandatory >> index & 1:
                raise _invalid(value.descriptor, index, "is missing")
        elif not check(field):
            raise _invalid(value.descriptor, index, "has the wrong type")
    return build(*fields), pos


def _invalid(code: int, index: int, problem: str) -> ProtocolError:
    return ProtocolError("amqp:invalid-field", f"field {index} of performative {code:#x} {problem}")
