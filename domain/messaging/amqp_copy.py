"""Copies of received messages that can be sent again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.amqp import (
    AmqpAnnotatedMessage,
    AmqpMessageBodyType,
    AmqpMessageHeader,
    AmqpMessageProperties,
)

from domain.messaging.amqp_values import sendable
from domain.messaging.redelivery import FAILURE, TRY

#: Written by the bus; the times belong to the first sending.
_NOT_COPIED = ("absolute_expiry_time", "creation_time")

#: Left over from the failed delivery; with `TRY`, the first failure would be the last.
_NOT_SENT_AGAIN = ("DeadLetterReason", "DeadLetterErrorDescription", TRY, FAILURE)


def copy_of(message: ServiceBusReceivedMessage, added: Mapping[str, Any]) -> AmqpAnnotatedMessage:
    """The same body, ids and properties as ``message``, and the application properties ``added``.

    The annotations are left out: they are the bus's own. So are properties that are lists or maps,
    which AMQP does not allow.
    """
    raw = message.raw_amqp_message
    properties = decoded(raw.properties.items()) if raw.properties else {}
    copy = AmqpAnnotatedMessage(
        **_body(raw),
        properties=AmqpMessageProperties(
            **{name: value for name, value in properties.items() if name not in _NOT_COPIED}
        ),
        application_properties={
            **{
                name: value
                for name, value in sendable(decoded(raw.application_properties or {})).items()
                if name not in _NOT_SENT_AGAIN
            },
            **added,
        },
    )
    if raw.header is not None:
        copy.header = AmqpMessageHeader(
            durable=raw.header.durable, time_to_live=raw.header.time_to_live
        )
    return copy


def decoded(pairs: Mapping[Any, Any] | list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs with AMQP strings, which the SDK leaves as bytes, as ``str``."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return {str(_text(name)): _text(value) for name, value in items}


def _text(value: Any) -> Any:  # noqa: ANN401 any AMQP value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def _body(raw: AmqpAnnotatedMessage) -> dict[str, Any]:
    if raw.body_type is AmqpMessageBodyType.DATA:
        return {"data_body": list(raw.body)}
    if raw.body_type is AmqpMessageBodyType.SEQUENCE:
        return {"sequence_body": list(raw.body)}
    return {"value_body": raw.body}
