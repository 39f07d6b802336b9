"""Encoding of messages for receivers.

The header is encoded anew, entries are added to annotations and application properties, and
everything else is the bytes that the sender wrote.

Source: OASIS AMQP 1.0 part 3.2; the annotations are those of Service Bus' AMQP protocol guide.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import NamedTuple

from infra.local.servicebus.broker.messages import (
    ANNOTATIONS,
    APPLICATION_PROPERTIES,
    Content,
    Entries,
    map_entries,
    require_properties_fit,
    section,
)
from infra.local.servicebus.codec.encode import encode, encode_compound, encode_list
from infra.local.servicebus.codec.types import Long, Symbol, UByte, UInt


class BrokerProperties(NamedTuple):
    """The properties that the broker adds to a delivered message; times in ms since the epoch."""

    delivery_count: int
    ttl_ms: int | None
    sequence_number: int
    enqueued_at: int
    locked_until: int | None
    state: int
    topic_sequence_number: int | None


def with_properties(content: Content, changes: Entries) -> Content:
    """``content`` with application properties that a receiver has set, replacing existing ones.

    Raises:
        MessageTooLarge: the properties would take more than Service Bus allows.
    """
    if not changes.length:
        return content
    changed = _replaced(content, {key: entry for key, entry, _ in map_entries(changes.raw)})
    require_properties_fit(changed.annotations, changed.application_properties, changed.properties)
    return changed


def with_dead_letter(content: Content, reason: str | None, description: str | None) -> Content:
    """``content`` with the application properties of a dead letter, replacing existing ones."""
    texts = {"DeadLetterReason": reason, "DeadLetterErrorDescription": description}
    return _replaced(
        content,
        {
            name.encode(): b"" if text is None else encode(name) + encode(text[:4096])
            for name, text in texts.items()
        },
    )


def _replaced(content: Content, entries: dict[bytes, bytes]) -> Content:
    """``content`` with ``entries`` as application properties; an empty entry is removed."""
    earlier = map_entries(content.application_properties.raw)
    kept = [entry for key, entry, _ in earlier if key not in entries]
    kept += [entry for entry in entries.values() if entry]
    return replace(content, application_properties=Entries(2 * len(kept), b"".join(kept)))


_HEADER_PREFIX = b"\x00\x53\x70"
_ENQUEUED_KEY = encode(Symbol("x-opt-enqueued-time")) + b"\x83"
_SEQUENCE_KEY = encode(Symbol("x-opt-sequence-number")) + b"\x81"
_LOCKED_KEY = encode(Symbol("x-opt-locked-until")) + b"\x83"
_STATE_KEY = encode(Symbol("x-opt-message-state")) + b"\x71"
_TOPIC_SEQUENCE_KEY = encode(Symbol("x-opt-enqueue-sequence-number"))
_I64 = struct.Struct(">q").pack
_I32 = struct.Struct(">i").pack


def render(content: Content, stamp: BrokerProperties) -> bytes:
    """Encode a message for a receiver."""
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
