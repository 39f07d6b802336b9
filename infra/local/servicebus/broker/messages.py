"""Parsing of messages when they arrive.

Bodies and properties are kept as the bytes that the sender wrote.

Source: OASIS AMQP 1.0 part 3.2 (message format). Sections are accepted in any order, since the SDK
writes delivery annotations last.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from infra.local.servicebus.codec.decode import DecodeError, decode, skip
from infra.local.servicebus.codec.encode import encode, encode_compound
from infra.local.servicebus.codec.types import Described
from infra.local.servicebus.errors import MalformedMessage, MessageTooLarge

#: The ``message-format`` of a batch: a transfer whose data sections are messages.
BATCH_FORMAT = 0x80013700

HEADER, DELIVERY_ANNOTATIONS, ANNOTATIONS, PROPERTIES = 0x70, 0x71, 0x72, 0x73
APPLICATION_PROPERTIES, DATA, SEQUENCE, VALUE, FOOTER = 0x74, 0x75, 0x76, 0x77, 0x78

SCHEDULED_TIME = b"x-opt-scheduled-enqueue-time"
#: Annotations that only the broker sets; a sender that forwards a received message may have them.
_BROKER_ANNOTATIONS = frozenset(
    (
        b"x-opt-sequence-number",
        b"x-opt-enqueue-sequence-number",
        b"x-opt-enqueued-time",
        b"x-opt-locked-until",
        b"x-opt-lock-token",
        b"x-opt-message-state",
        b"x-opt-deadletter-source",
    )
)

#: Service Bus' limits on one application property, and on all but the body (its quotas page).
MAX_PROPERTY_BYTES, MAX_PROPERTIES_BYTES = 32 * 1024, 64 * 1024

_ID = (str, int, bytes, uuid.UUID)
#: The fields of the properties section and their Python types (AMQP 1.0 part 3.2.4).
_PROPERTY_FIELDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("message-id", _ID),
    ("user-id", (bytes,)),
    ("to", (str,)),
    ("subject", (str,)),
    ("reply-to", (str,)),
    ("correlation-id", _ID),
    ("content-type", (str,)),
    ("content-encoding", (str,)),
    ("absolute-expiry-time", (int,)),
    ("creation-time", (int,)),
    ("group-id", (str,)),
    ("group-sequence", (int,)),
    ("reply-to-group-id", (str,)),
)


class Entries(NamedTuple):
    """The entries of a map: the number of keys and values, and their encoding."""

    length: int
    raw: bytes


NO_ENTRIES = Entries(0, b"")
_NULL = b"\x40"


@dataclass(frozen=True, slots=True)
class Content:
    """A message as it was sent; the subscriptions of a topic share it.

    Attributes:
        ttl_ms: the header's ``ttl``, if any.
        annotations: message annotations, without those that only the broker sets.
        properties: the encoded section.
        body: the encoded body and footer sections.
        scheduled_for: when to enqueue it, in ms since the epoch, if it is scheduled.
    """

    durable: bool
    priority: int | None
    ttl_ms: int | None
    annotations: Entries
    properties: bytes
    application_properties: Entries
    body: bytes
    scheduled_for: int | None

    @property
    def size(self) -> int:
        """Size in bytes, without the broker's own data about the message."""
        maps = len(self.annotations.raw) + len(self.application_properties.raw)
        return maps + len(self.properties) + len(self.body)


def split_batch(payload: bytes) -> list[bytes]:
    """The messages in the data sections of a batch.

    Raises:
        MalformedMessage: it is not a batch, or an empty one.
    """
    messages = []
    for code, start, end in iterate_sections(payload):
        if code == DATA:
            value, _ = _decode(payload[start:end])
            if not isinstance(value, bytes):
                raise MalformedMessage("a data section of a batch is not binary")
            messages.append(value)
    if not messages:
        raise MalformedMessage("a batch contains no message")
    return messages


def parse_message(payload: bytes) -> Content:
    """Parse a message; one without an id gets one, as in Service Bus.

    Raises:
        MalformedMessage: it is truncated, has no body, or a section is malformed.
        MessageTooLarge: all but the body takes more than `MAX_PROPERTIES_BYTES`.
    """
    header: list[object] = []
    annotations, scheduled_for = NO_ENTRIES, None
    application_properties = NO_ENTRIES
    properties = b""
    body: list[bytes] = []
    for code, start, end in iterate_sections(payload):
        value = payload[start:end]
        if code == HEADER:
            header = _decode_list(value, 5)
        elif code == ANNOTATIONS:
            annotations, scheduled_for = _own_annotations(value)
        elif code == PROPERTIES:
            properties = value
        elif code == APPLICATION_PROPERTIES:
            application_properties = simple_entries(value)
        elif code != DELIVERY_ANNOTATIONS:
            if code != DATA:
                _decode(value)  # consumers must be able to decode it; data may be any bytes
            body.append(section(code, value))
    if not body:
        raise MalformedMessage("the message has no body section")
    durable, priority, ttl = (header + [None] * 5)[:3]
    properties = section(PROPERTIES, _identified(properties))
    require_properties_fit(annotations, application_properties, properties)
    return Content(
        durable=durable is True,
        priority=_within(priority, 255),
        ttl_ms=_within(ttl, 2**32 - 1),
        annotations=annotations,
        properties=properties,
        application_properties=application_properties,
        body=b"".join(body),
        scheduled_for=scheduled_for,
    )


def require_properties_fit(
    annotations: Entries, application_properties: Entries, properties: bytes
) -> None:
    """Raise MessageTooLarge if all but the body takes more than Service Bus allows."""
    size = len(annotations.raw) + len(application_properties.raw) + len(properties)
    if size > MAX_PROPERTIES_BYTES:
        raise MessageTooLarge(
            f"the message's properties take {size} bytes, the limit is {MAX_PROPERTIES_BYTES}"
        )


def _identified(properties: bytes) -> bytes:
    """The encoded properties, with a new GUID (no hyphens) as message id if there is none."""
    fields = _decode_list(properties, len(_PROPERTY_FIELDS)) if properties else []
    for value, (name, types) in zip(fields, _PROPERTY_FIELDS, strict=False):
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            raise MalformedMessage(f"the property {name} is of a type that AMQP does not allow")
    if fields and fields[0] not in (None, ""):
        return properties
    own = encode(uuid.uuid4().hex)
    if not fields:
        return encode_compound(0xC0, 0xD0, 1, own)
    start = {0xC0: 3, 0xD0: 9}[properties[0]]
    return encode_compound(0xC0, 0xD0, len(fields), own + properties[skip(properties, start) :])


def section(code: int, value: bytes) -> bytes:
    """A section, with the short form of its descriptor: the SDK reads no other."""
    return b"\x00\x53" + bytes((code,)) + value


def iterate_sections(payload: bytes) -> Iterator[tuple[int, int, int]]:
    """Each section as its code, and the start and end of its value."""
    pos = 0
    while pos < len(payload):
        if payload[pos] != 0x00:
            raise MalformedMessage("a section does not start with a descriptor")
        code, start = _decode(payload, pos + 1)
        if not isinstance(code, int) or not HEADER <= code <= FOOTER:
            raise MalformedMessage("a section has an unknown descriptor")
        try:
            end = skip(payload, start)
        except DecodeError as error:
            raise MalformedMessage(str(error)) from None
        yield code, start, end
        pos = end


def _decode(buf: bytes, pos: int = 0) -> tuple[object, int]:
    try:
        return decode(buf, pos)
    except DecodeError as error:
        raise MalformedMessage(str(error)) from None


def _decode_list(value: bytes, most: int) -> list[object]:
    items, _ = _decode(value)
    if not isinstance(items, list) or len(items) > most:
        raise MalformedMessage(
            f"the header or the properties are not a list of up to {most} fields"
        )
    return items


def map_inside(value: bytes) -> Entries:
    """The entries of an encoded map. Raises MalformedMessage."""
    if value[0] == 0xC1:
        return Entries(value[2], value[3:])
    if value[0] == 0xD1:
        return Entries(int.from_bytes(value[5:9], "big"), value[9:])
    raise MalformedMessage("annotations or application properties are not a map")


def map_entries(raw: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Each entry as the bytes of its key's text, the encoded key and value, the encoded value."""
    pos = 0
    while pos < len(raw):
        try:
            middle = skip(raw, pos)
            end = skip(raw, middle)
        except DecodeError as error:
            raise MalformedMessage(str(error)) from None
        width = 2 if raw[pos] in (0xA1, 0xA3) else 5
        if raw[pos] not in (0xA1, 0xA3, 0xB1, 0xB3):
            raise MalformedMessage("a key of a map is neither a string nor a symbol")
        yield raw[pos + width : middle], raw[pos:end], raw[middle:end]
        pos = end


def _own_annotations(value: bytes) -> tuple[Entries, int | None]:
    """The sender's own annotations, and the time for which the message is scheduled, if any."""
    _decode(value)
    kept = []
    scheduled_for = None
    for key, entry, encoded in map_entries(map_inside(value).raw):
        if key in _BROKER_ANNOTATIONS:
            continue
        if key == SCHEDULED_TIME:
            moment, _ = _decode(encoded)
            if not isinstance(moment, int):
                raise MalformedMessage(f"{SCHEDULED_TIME.decode()} is not a timestamp")
            scheduled_for = moment
        kept.append(entry)
    return Entries(2 * len(kept), b"".join(kept)), scheduled_for


def simple_entries(value: bytes) -> Entries:
    """The entries of an encoded map, whose values must be simple.

    A described simple value counts as simple: .NET sends times and URIs in this way.

    Raises:
        MalformedMessage: names the property that AMQP does not allow.
        MessageTooLarge: names the property that is too large.
    """
    inside = map_inside(value)
    count = 0
    for key, _, encoded in map_entries(inside.raw):
        if len(encoded) > MAX_PROPERTY_BYTES:
            raise MessageTooLarge(
                f"the application property {_name(key)} takes {len(encoded)} bytes, "
                f"the limit is {MAX_PROPERTY_BYTES}"
            )
        item, _ = _decode(encoded)
        if isinstance(item, Described):
            described = isinstance(item.descriptor, str | int)
            item = item.value if described else item
        if isinstance(item, list | dict | Described):
            raise MalformedMessage(
                f"the application property {_name(key)} is a list, a map or an array; "
                "AMQP allows simple values only"
            )
        count += 2
    if count != inside.length:
        raise MalformedMessage("the application properties are shorter than their size")
    return inside


def changes_in(value: bytes, but: Collection[bytes] = ()) -> Entries:
    """The properties in an encoded map that a receiver sets, as application properties.

    Raises:
        MalformedMessage, MessageTooLarge: as `simple_entries`.
    """
    if value == _NULL:
        return NO_ENTRIES
    inside = simple_entries(value)
    kept = [
        encode(key.decode(errors="replace")) + encoded
        for key, _, encoded in map_entries(inside.raw)
        if key not in but
    ]
    return Entries(2 * len(kept), b"".join(kept))


def _name(key: bytes) -> str:
    return repr(key[:80].decode(errors="replace"))


def _within(value: object, most: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value <= most:
        raise MalformedMessage("a field of the header is out of range")
    return value
