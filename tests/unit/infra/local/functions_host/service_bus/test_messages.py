"""Messages reach a function as on the real host, whatever a producer puts into them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import azure.functions as func
import pytest
from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus._pyamqp._decode import decode_payload

from domain.contracts.amqp_decoding import complete_decoder
from infra.local.functions_host.model import ServiceBusTrigger
from infra.local.functions_host.service_bus.messages import UnreadableBodyError, single_argument
from infra.local.servicebus.broker.messages import VALUE, parse_message, section
from infra.local.servicebus.broker.stored import StoredMessage
from infra.local.servicebus.codec.encode import encode
from tests.support.servicebus.raw_messages import (
    ODD_PROPERTIES,
    UNREADABLE_BODIES,
    data,
    raw_message,
)

TRIGGER = ServiceBusTrigger("m", "Bus", "q", None, None, many=False, body="binary", plain=None)


@pytest.fixture(autouse=True, scope="module")
def decoder() -> None:
    complete_decoder()


def seen(payload: bytes) -> func.ServiceBusMessage:
    """The argument that the function gets for an encoded message."""
    stored = StoredMessage(parse_message(payload), sequence_number=1, enqueued_at=1000)
    decoded = decode_payload(memoryview(stored.render()))
    receiver = cast(Any, SimpleNamespace(_amqp_transport=SimpleNamespace()))
    message = ServiceBusReceivedMessage(decoded, receiver=receiver, frame=cast(Any, [None] * 12))
    return cast(func.ServiceBusMessage, single_argument(TRIGGER, message))


@pytest.mark.parametrize("name", ODD_PROPERTIES)
def test_a_property_of_any_type_is_what_it_is_on_azure(name: str) -> None:
    encoded, expected = ODD_PROPERTIES[name]
    message = seen(raw_message(data(b"body"), {"p": encoded, "q": b"\x41"}))
    assert message.application_properties == {"p": expected, "q": True}
    assert message.get_body() == b"body"


@pytest.mark.parametrize("name", UNREADABLE_BODIES)
def test_a_body_that_is_no_data_does_not_reach_the_function(name: str) -> None:
    with pytest.raises(UnreadableBodyError, match="AMQP body of type"):
        seen(raw_message(UNREADABLE_BODIES[name]))


def test_a_value_that_is_null_is_an_empty_body() -> None:
    assert seen(raw_message(section(VALUE, encode(None)))).get_body() == b""
