"""Converts Service Bus messages to a function's argument.

The metadata are those of the extension's ServiceBusTriggerBindingStrategy, with the types of the
host's GrpcMessageConversionExtensions, decoded by Microsoft's converter. So a function gets what it
gets on Azure, including its flaws: there is no locked_until, and in a batch, empty entries of
string arrays are dropped, which shifts the following ones (Azure/Azure-Functions#2084).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.amqp import AmqpMessageBodyType

from domain.contracts.amqp_decoding import Timestamp
from infra.local.functions_host.converters import Datum, converter
from infra.local.functions_host.model import ServiceBusTrigger

# Name in the metadata, attribute of ServiceBusReceivedMessage. `Label` is the subject's old name.
_STRINGS = (
    ("DeadLetterSource", "dead_letter_source"),
    ("LockToken", "lock_token"),
    ("MessageId", "message_id"),
    ("ContentType", "content_type"),
    ("ReplyTo", "reply_to"),
    ("To", "to"),
    ("Subject", "subject"),
    ("Label", "subject"),
    ("CorrelationId", "correlation_id"),
    ("SessionId", "session_id"),
    ("ReplyToSessionId", "reply_to_session_id"),
    ("PartitionKey", "partition_key"),
)
# The third element is .NET's value of a missing time: MaxValue, or default(DateTimeOffset).
_TIMES = (
    ("ExpiresAtUtc", "expires_at_utc", "9999-12-31T23:59:59.9999999"),
    ("EnqueuedTimeUtc", "enqueued_time_utc", "0001-01-01T00:00:00"),
)

# The application properties under their new and their old name; the converter reads the old one.
_PROPERTIES = ("Application", "User")


class UnreadableBodyError(Exception):
    """The body cannot be converted to the function's argument; the delivery counts as failed."""


def single_argument(trigger: ServiceBusTrigger, message: ServiceBusReceivedMessage) -> object:
    """Return the argument for one message: ``func.ServiceBusMessage``, or its plain body."""
    body = _body(trigger, message)
    if trigger.plain is not None:
        return body
    metadata = {
        name: Datum(text, "string")
        for name, attribute in _STRINGS
        if (text := _text(getattr(message, attribute))) is not None
    }
    for name, attribute, missing in _TIMES:
        metadata[name] = _json(_dotnet_time(getattr(message, attribute), missing))
    properties = _json(_properties(message))
    metadata |= {
        "DeliveryCount": _json(delivery_count(message)),
        "SequenceNumber": _json(message.sequence_number),
        "ApplicationProperties": properties,
        "UserProperties": properties,
    }
    return _decode(Datum(body, "string" if isinstance(body, str) else "bytes"), metadata)


def batch_argument(
    trigger: ServiceBusTrigger, messages: Sequence[ServiceBusReceivedMessage]
) -> object:
    """Return the argument for a batch: a list of ``func.ServiceBusMessage``."""
    bodies = [_body(trigger, message) for message in messages]
    if trigger.body == "binary":
        data = Datum(SimpleNamespace(bytes=bodies), "collection_bytes")
    else:
        data = _strings(bodies)
    metadata = {
        f"{name}Array": _strings([_text(getattr(message, attribute)) for message in messages])
        for name, attribute in _STRINGS
    }
    for name, attribute, missing in _TIMES:
        times = [_dotnet_time(getattr(message, attribute), missing) for message in messages]
        metadata[f"{name}Array"] = _json(times)
    numbers = SimpleNamespace(sint64=[message.sequence_number for message in messages])
    properties = _json([_properties(message) for message in messages])
    metadata |= {
        "DeliveryCountArray": _json([delivery_count(message) for message in messages]),
        "SequenceNumberArray": Datum(numbers, "collection_sint64"),
        "ApplicationPropertiesArray": properties,
        "UserPropertiesArray": properties,
    }
    return _decode(data, metadata)


def manual_argument(trigger: ServiceBusTrigger, text: str) -> object:
    """Return the argument for a manual run: a message that has only a body."""
    if trigger.plain is not None:
        return text.encode() if trigger.plain is bytes else text
    if trigger.many:
        data = Datum(SimpleNamespace(string=[text]), "collection_string")
        return _decode(data, {f"{name}PropertiesArray": _json([{}]) for name in _PROPERTIES})
    metadata = {f"{name}Properties": _json({}) for name in _PROPERTIES}
    return _decode(Datum(text, "string"), metadata | {"DeliveryCount": _json(1)})


def delivery_count(message: ServiceBusReceivedMessage) -> int:
    """Return the number of this delivery, from 1; AMQP counts the failed deliveries before it."""
    return (message.delivery_count or 0) + 1


def trace_of(message: ServiceBusReceivedMessage) -> dict[str, str]:
    """Return the ``traceparent`` that Azure's SDKs send as ``Diagnostic-Id``, if there is one."""
    value = _text((message.application_properties or {}).get(b"Diagnostic-Id"))
    return {"traceparent": value} if value else {}


def _decode(data: Datum, metadata: Mapping[str, Datum]) -> object:
    return converter("serviceBusTrigger").decode(data, trigger_metadata=metadata)


def _body(trigger: ServiceBusTrigger, message: ServiceBusReceivedMessage) -> str | bytes:
    if message.body_type is AmqpMessageBodyType.VALUE and message.body is None:
        content = b""  # as the .NET SDK reads a null value
    elif message.body_type is not AmqpMessageBodyType.DATA:
        raise UnreadableBodyError(
            f"message {message.message_id} has an AMQP body of type {message.body_type.value}; "
            "functions only take data sections, which the SDK sends for str and bytes"
        )
    else:
        content = b"".join(bytes(section) for section in message.body)
    if trigger.body == "binary":
        return content
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UnreadableBodyError(
            f"the body of message {message.message_id} is not UTF-8; "
            "give the trigger data_type=func.DataType.BINARY"
        ) from None


def _strings(values: Sequence[object]) -> Datum:
    """As the host's ToRpcStringArray: without null and empty entries."""
    return Datum(SimpleNamespace(string=[value for value in values if value]), "collection_string")


def _json(value: object) -> Datum:
    return Datum(json.dumps(value), "json")


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def _dotnet_time(moment: datetime | None, missing: str) -> str:
    """A time as Newtonsoft.Json writes ``DateTimeOffset.DateTime``: no zone, no trailing zeros."""
    if moment is None:
        return missing
    text = moment.replace(tzinfo=None).isoformat()
    return text.rstrip("0") if "." in text else text


def _properties(message: ServiceBusReceivedMessage) -> dict[str, Any]:
    return {
        str(_text(key)): _property(value)
        for key, value in (message.application_properties or {}).items()
    }


def _property(value: object) -> object:
    """A property as Newtonsoft.Json writes it; types that JSON lacks become strings."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Timestamp):
        return _iso(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else _NOT_FINITE[str(number)]
    return _text(value)


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = "0001-01-01T00:00:00", "9999-12-31T23:59:59.9999999Z"


def _iso(milliseconds: int) -> str:
    """A timestamp as a .NET DateTime, limited to the range of that type."""
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return _LATEST if milliseconds > 0 else _EARLIEST
    return f"{_dotnet_time(moment, _EARLIEST)}Z"
