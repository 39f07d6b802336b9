"""Requests to ``$cbs`` and ``$management`` nodes, and their replies.

Source: AMQP Management 1.0 working draft and CBS draft 00, as used in Service Bus' AMQP protocol
guide: a reply's correlation-id is the request's message-id, with the same AMQP type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from infra.local.servicebus.broker.messages import (
    APPLICATION_PROPERTIES,
    PROPERTIES,
    VALUE,
    iterate_sections,
    section,
)
from infra.local.servicebus.codec.decode import DecodeError, decode, skip
from infra.local.servicebus.codec.encode import encode, encode_compound
from infra.local.servicebus.errors import InvalidRequest

_T = TypeVar("_T")


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        message_id: still encoded, so that the reply can repeat it unchanged.
        encoded_value: ``value`` as it arrived, with the AMQP types of its numbers.
    """

    message_id: bytes
    reply_to: str | None
    application_properties: Mapping[Any, Any]
    value: Any
    encoded_value: bytes = b"\x40"

    @property
    def operation(self) -> str:
        """The ``operation`` application property."""
        return str(self.application_properties.get("operation"))

    def argument(self, name: str, kind: type[_T]) -> _T:
        """A mandatory entry of the body.

        Raises:
            InvalidRequest: it is missing, or of the wrong type.
        """
        value = self.value.get(name) if isinstance(self.value, dict) else None
        if not isinstance(value, kind):
            raise InvalidRequest(f"{name} is missing in the request, or of the wrong type")
        return value


@dataclass(frozen=True)
class Reply:
    """A reply; its application properties contain the status code and the description."""

    application_properties: dict[str, Any]
    value: Any = field(default_factory=dict)


def parse_request(payload: bytes) -> Request:
    """Parse a request message.

    Raises:
        MalformedMessage: it is not an AMQP message.
        InvalidRequest: it has no message-id, or a section is malformed.
    """
    message_id, reply_to = b"", None
    application_properties: Mapping[Any, Any] = {}
    value: Any = None
    encoded_value = b"\x40"
    try:
        for code, start, end in iterate_sections(payload):
            encoded = payload[start:end]
            if code == PROPERTIES:
                message_id, reply_to = _identity(encoded)
            elif code == APPLICATION_PROPERTIES:
                properties, _ = decode(encoded)
                application_properties = properties if isinstance(properties, dict) else {}
            elif code == VALUE:
                value, _ = decode(encoded)
                encoded_value = encoded
    except DecodeError as error:
        raise InvalidRequest(f"the request is malformed: {error}") from None
    if not message_id:
        raise InvalidRequest("the request has no message-id")
    return Request(message_id, reply_to, application_properties, value, encoded_value)


def _identity(properties: bytes) -> tuple[bytes, str | None]:
    fields, _ = decode(properties)
    if not isinstance(fields, list) or not fields or fields[0] is None:
        return b"", None
    start = {0xC0: 3, 0xD0: 9}[properties[0]]
    reply_to = fields[4] if len(fields) > 4 and isinstance(fields[4], str) else None
    return properties[start : skip(properties, start)], reply_to


def encode_reply(request: Request, reply: Reply) -> bytes:
    """The message that answers ``request``."""
    nulls = b"\x40" * 5
    return b"".join(
        (
            section(PROPERTIES, encode_compound(0xC0, 0xD0, 6, nulls + request.message_id)),
            section(APPLICATION_PROPERTIES, encode(reply.application_properties)),
            section(VALUE, encode(reply.value)),
        )
    )
