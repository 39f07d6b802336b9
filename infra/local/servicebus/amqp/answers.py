"""Encoding of the performatives, termini and outcomes that the broker sends.

Source: OASIS AMQP 1.0 part 2.7 and 3.4. Every field is encoded explicitly, nulls included:
azure-servicebus up to 7.14.3 accesses fields without checking the length of the list.
"""

from __future__ import annotations

import struct

from infra.local.servicebus.amqp.performatives import (
    ACCEPTED,
    ATTACH,
    ERROR,
    MODIFIED,
    REJECTED,
    RELEASED,
    SASL_MECHANISMS,
    SASL_OUTCOME,
    SOURCE,
    Attach,
)
from infra.local.servicebus.codec.encode import encode, encode_list, encode_sized
from infra.local.servicebus.codec.types import Array, Described, Symbol, UByte, UInt, ULong


def performative(code: int, *fields: object) -> bytes:
    """Encode a performative, or another described list with a descriptor below 256."""
    return b"\x00\x53" + bytes((code,)) + encode_list(fields)


def error(condition: str, description: str) -> Described:
    """An ``error``; its info map is never empty, because the SDK hangs on an empty one."""
    info = {Symbol("condition"): condition}
    return Described(ULong(ERROR), [Symbol(condition), description[:1024], info])


#: Outcomes without fields, encoded.
ACCEPTED_STATE = performative(ACCEPTED)
RELEASED_STATE = performative(RELEASED)
#: ``rejected`` without an error confirms dead-lettering.
REJECTED_STATE = performative(REJECTED, None)


def rejected_state(condition: str, description: str) -> bytes:
    """The outcome of a refused delivery or settlement."""
    return performative(REJECTED, error(condition, description))


def modified_state(delivery_failed: bool, undeliverable_here: bool) -> bytes:
    """The outcome of an abandon (``delivery_failed``) or a defer (``undeliverable_here``)."""
    return performative(MODIFIED, delivery_failed, undeliverable_here, None)


def encode_open(container: str, max_frame: int, channel_max: int, idle_ms: int) -> bytes:
    """The broker's ``open``."""
    channels = b"\x60" + struct.pack(">H", channel_max)
    head = [encode(v) for v in (container, None, UInt(max_frame))]
    tail = [encode(v) for v in (UInt(idle_ms), None, None, None, None, None)]
    raw = b"".join([*head, channels, *tail])
    return b"\x00\x53\x10\xd0" + struct.pack(">II", len(raw) + 4, 10) + raw


def encode_begin(remote_channel: int, next_outgoing_id: int, window: int, handle_max: int) -> bytes:
    """The broker's ``begin``."""
    channel = b"\x60" + struct.pack(">H", remote_channel)
    rest = (UInt(next_outgoing_id), UInt(window), UInt(window), UInt(handle_max), None, None, None)
    raw = channel + b"".join([encode(value) for value in rest])
    return b"\x00\x53\x11\xd0" + struct.pack(">II", len(raw) + 4, 8) + raw


def terminus(code: int, address: str | None) -> Described:
    """A source (11 fields) or a target (7 fields) that has only an address."""
    count = 11 if code == SOURCE else 7
    return Described(ULong(code), [address] + [None] * (count - 1))


def encode_attach(
    peer: Attach,
    source: Described | None,
    target: Described | None,
    max_message_bytes: int,
) -> bytes:
    """The ``attach`` that answers the peer's, with the same handle."""
    properties = {Symbol("com.microsoft:max-message-batch-size"): ULong(max_message_bytes)}
    return performative(
        ATTACH,
        peer.name,
        UInt(peer.handle),
        not peer.role,
        UByte(2 if peer.snd_settle_mode is None else peer.snd_settle_mode),
        UByte(peer.rcv_settle_mode or 0),
        source,
        target,
        None,
        None,
        UInt(0) if peer.role else None,
        ULong(max_message_bytes),
        None,
        None,
        properties,
    )


_TRANSFER_HEAD = b"\x00\x53\x14\xd0"
_U32 = struct.Struct(">I").pack


def encode_transfer(handle: int, delivery_id: int, tag: bytes, settled: bool, more: bool) -> bytes:
    """The ``transfer`` of one frame of a delivery; encoded by hand, because it is a hot path."""
    raw = b"".join(
        (
            b"\x70",
            _U32(handle),
            b"\x70",
            _U32(delivery_id),
            encode_sized(0xA0, 0xB0, tag),
            b"\x43\x41" if settled else b"\x43\x42",
            b"\x41" if more else b"\x42",
            b"\x40\x40\x40\x40\x40",
        )
    )
    return _TRANSFER_HEAD + _U32(len(raw) + 4) + b"\x00\x00\x00\x0b" + raw


def encode_disposition(role: bool, first: int, last: int, state: bytes) -> bytes:
    """A ``disposition`` that settles; ``role`` is True if the broker received the deliveries."""
    raw = b"".join(
        (
            b"\x41" if role else b"\x42",
            b"\x70",
            _U32(first),
            b"\x70",
            _U32(last),
            b"\x41",
            state,
            b"\x40",
        )
    )
    return b"\x00\x53\x15\xd0" + _U32(len(raw) + 4) + b"\x00\x00\x00\x06" + raw


def encode_sasl_mechanisms() -> bytes:
    """The SASL mechanisms of Service Bus, except EXTERNAL, which needs certificates."""
    names = ("MSSBCBS", "PLAIN", "ANONYMOUS")
    return performative(SASL_MECHANISMS, Array([Symbol(name) for name in names]))


def encode_sasl_outcome(code: int) -> bytes:
    """The SASL outcome: ``0`` is success, ``1`` an authentication failure."""
    return performative(SASL_OUTCOME, UByte(code), None)
