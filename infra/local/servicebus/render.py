"""Messages put together for a receiver.

Only the header is rebuilt; annotations and application properties get entries spliced in, and
everything else is the bytes that the sender wrote.

Source: OASIS AMQP 1.0 part 3.2; the annotations are those of Service Bus' AMQP protocol guide.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import NamedTuple

from infra.local.servicebus.amqp_types import Long, Symbol, UByte, UInt
from infra.local.servicebus.encode import encode, encode_compound, encode_list
from infra.local.servicebus.messages import (
    ANNOTATIONS,
    APPLICATION_PROPERTIES,
    Content,
    Entries,
    map_entries,
    section,
)


class Stamp(NamedTuple):
    """What the broker says about a message when it hands it out; times in ms since the epoch."""

    delivery_count: int
    ttl_ms: int | None
    sequence_number: int
    enqueued_at: int
    locked_until: int | None
    state: int
    topic_sequence_number: int | None


def with_dead_letter(content: Content, reason: str | None, description: str | None) -> Content:
    """``content`` with the application properties of a dead letter, replacing earlier ones."""
    names = {b"DeadLetterReason": reason, b"DeadLetterErrorDescription": description}
    kept = [
        entry
        for key, entry, _ in map_entries(content.application_properties.raw)
        if key not in names
    ]
    added = [
        encode(name.decode()) + encode(text[:4096])
        for name, text in names.items()
        if text is not None
    ]
    entries = kept + added
    return replace(content, application_properties=Entries(2 * len(entries), b"".join(entries)))


_HEADER_PREFIX = b"\x00\x53\x70"
_ENQUEUED_KEY = encode(Symbol("x-opt-enqueued-time")) + b"\x83"
_SEQUENCE_KEY = encode(Symbol("x-opt-sequence-number")) + b"\x81"
_LOCKED_KEY = encode(Symbol("x-opt-locked-until")) + b"\x83"
_STATE_KEY = encode(Symbol("x-opt-message-state")) + b"\x71"
_TOPIC_SEQUENCE_KEY = encode(Symbol("x-opt-enqueue-sequence-number"))
_I64 = struct.Struct(">q").pack
_I32 = struct.Struct(">i").pack


def render(content: Content, stamp: Stamp) -> bytes:
    """Put a message together for a receiver."""
    header = encode_list(
        (
            content.durable,
            None if content.priority is None else UByte(content.priority),
            None if stamp.ttl_ms is None else UInt(min(stamp.ttl_ms, 2**32 - 1)),
            False,
            UInt(stamp.delivery_count),
        )
    )
    parts = [
        content.annotations.raw,
        _SEQUENCE_KEY,
        _I64(stamp.sequence_number),
        _ENQUEUED_KEY,
        _I64(stamp.enqueued_at),
        _STATE_KEY,
        _I32(stamp.state),
    ]
    count = content.annotations.length + 6
    if stamp.locked_until is not None:
        parts += (_LOCKED_KEY, _I64(stamp.locked_until))
        count += 2
    if stamp.topic_sequence_number is not None:
        parts += (_TOPIC_SEQUENCE_KEY, encode(Long(stamp.topic_sequence_number)))
        count += 2
    annotations = encode_compound(0xC1, 0xD1, count, b"".join(parts))
    sections = [_HEADER_PREFIX, header, section(ANNOTATIONS, annotations), content.properties]
    properties = content.application_properties
    if properties.length:
        encoded = encode_compound(0xC1, 0xD1, properties.length, properties.raw)
        sections.append(section(APPLICATION_PROPERTIES, encoded))
    sections.append(content.body)
    return b"".join(sections)
