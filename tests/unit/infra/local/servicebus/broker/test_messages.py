"""Messages keep what the sender wrote, and get the broker's own properties."""

from __future__ import annotations

from typing import Any

import pytest
from azure.servicebus._pyamqp._decode import decode_payload
from azure.servicebus._pyamqp._encode import encode_payload
from azure.servicebus._pyamqp.message import BatchMessage, Header, Message, Properties
from hypothesis import given
from hypothesis import strategies as st

from infra.local.servicebus.broker.messages import Content, parse_message, split_batch
from infra.local.servicebus.broker.render import BrokerProperties, render, with_dead_letter
from infra.local.servicebus.codec.decode import decode
from infra.local.servicebus.codec.encode import encode
from infra.local.servicebus.codec.types import Symbol, Timestamp, UInt
from infra.local.servicebus.errors import MalformedMessage, MessageTooLarge
from tests.support.servicebus.entities import payload, section
from tests.support.servicebus.raw_messages import (
    COMPOUND_PROPERTIES,
    ODD_PROPERTIES,
    data,
    raw_message,
)

STAMP = BrokerProperties(
    delivery_count=2,
    ttl_ms=5000,
    sequence_number=7,
    enqueued_at=1000,
    locked_until=2000,
    state=0,
    topic_sequence_number=None,
)


def as_the_sdk_sees(content: Content, stamp: BrokerProperties = STAMP) -> Any:
    return decode_payload(memoryview(render(content, stamp)))


def from_the_sdk(**sections: Any) -> bytes:
    output = bytearray()
    encode_payload(output, Message(**sections))
    return bytes(output)


def test_the_sender_s_sections_come_out_as_they_went_in() -> None:
    sent = from_the_sdk(
        header=Header(durable=True, priority=7, ttl=60_000),
        properties=Properties(message_id="m", subject="s", group_id="g"),
        message_annotations={"x-opt-partition-key": "p"},
        delivery_annotations={"hop": "by hop"},
        application_properties={"a": 1, "b": "zwei"},
        data=[b"one", b"two"],
        footer={"f": 1},
    )
    seen = as_the_sdk_sees(parse_message(sent))
    assert (seen.header.durable, seen.header.priority) == (True, 7)
    assert (seen.header.ttl, seen.header.delivery_count) == (5000, 2)
    assert (seen.properties.message_id, seen.properties.subject) == (b"m", b"s")
    assert seen.application_properties == {b"a": 1, b"b": b"zwei"}
    assert seen.data == [b"one", b"two"]
    assert seen.footer == {b"f": 1}
    assert seen.delivery_annotations is None
    assert seen.message_annotations == {
        b"x-opt-partition-key": b"p",
        b"x-opt-sequence-number": 7,
        b"x-opt-enqueued-time": 1000,
        b"x-opt-message-state": 0,
        b"x-opt-locked-until": 2000,
    }


@pytest.mark.parametrize("body", [{"value": {"k": [1, 2]}}, {"sequence": [[1, "x"], [2]]}])
def test_bodies_of_any_kind_pass(body: dict[str, Any]) -> None:
    seen = as_the_sdk_sees(parse_message(from_the_sdk(**body)))
    assert seen.value or seen.sequence


def test_a_sender_cannot_forge_the_broker_s_annotations() -> None:
    forged = payload(x_opt_sequence_number=99, x_opt_locked_until=99, x_opt_own=5)
    seen = as_the_sdk_sees(parse_message(forged))
    assert seen.message_annotations[b"x-opt-sequence-number"] == 7
    assert seen.message_annotations[b"x-opt-locked-until"] == 2000
    assert seen.message_annotations[b"x-opt-own"] == 5


def test_dead_letter_details_replace_earlier_ones() -> None:
    first = with_dead_letter(
        parse_message(from_the_sdk(data=[b"x"], application_properties={"a": 1})), "one", "first"
    )
    seen = as_the_sdk_sees(with_dead_letter(first, "two", None))
    assert seen.application_properties == {b"a": 1, b"DeadLetterReason": b"two"}


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=200) | st.text(), max_size=30))
def test_dead_letter_details_are_spliced_into_any_properties(properties: dict[str, Any]) -> None:
    plain = from_the_sdk(data=[b"x"], application_properties=properties)
    seen = as_the_sdk_sees(with_dead_letter(parse_message(plain), "r" * 300, "d"))
    expected = {k.encode(): v.encode() if isinstance(v, str) else v for k, v in properties.items()}
    details = {b"DeadLetterReason": b"r" * 300, b"DeadLetterErrorDescription": b"d"}
    assert seen.application_properties == expected | details


def test_a_batch_of_the_sdk_splits_into_its_messages() -> None:
    inner = [from_the_sdk(data=[bytes([i]) * 300]) for i in range(256)]
    output = bytearray()
    batch = BatchMessage(data=inner, properties=Properties(message_id="first"))
    encode_payload(output, batch)
    assert split_batch(bytes(output)) == inner


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        section(0x72, {}),  # no body
        section(0x75, b"x")[:-1],  # truncated
        section(0x20, b"x"),  # not a section
        section(0x70, [True] * 9) + section(0x75, b"x"),  # a header that is none
        section(0x70, [True, None, "soon"]) + section(0x75, b"x"),
        section(0x72, []) + section(0x75, b"x"),  # annotations that are no map
        section(0x74, {"list": []}) + section(0x75, b"x"),
        section(0x74, {UInt(1): "number as key"}) + section(0x75, b"x"),
        section(0x72, {Symbol("x-opt-scheduled-enqueue-time"): "soon"}) + section(0x75, b"x"),
        b"\x00\x53\x77" + b"\xc0\xfa\x01" * 80,  # a body nested too deeply for consumers
        b"\x00" * 3000,
    ],
)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_message(data)


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for function in (parse_message, split_batch):
        try:
            function(data)
        except MalformedMessage:
            continue


def test_the_time_of_a_scheduled_message_is_read() -> None:
    when = Timestamp(1_800_000_000_000)
    sent = section(0x72, {Symbol("x-opt-scheduled-enqueue-time"): when}) + section(0x75, b"x")
    assert parse_message(sent).scheduled_for == when


def id_of(message: bytes) -> object:
    fields, _ = decode(parse_message(message).properties, 3)
    assert isinstance(fields, list)
    return fields[0]


def test_a_message_without_an_id_gets_one_of_its_own() -> None:
    bare = section(0x75, b"x")
    without = section(0x73, [None, None, None, "subject"]) + bare
    ids = {id_of(bare), id_of(bare), id_of(without)}
    assert len(ids) == 3
    assert all(isinstance(each, str) and len(each) == 32 for each in ids)
    fields, _ = decode(parse_message(without).properties, 3)
    assert fields[3] == "subject"
    assert id_of(section(0x73, ["mine"]) + bare) == "mine"


@pytest.mark.parametrize(("index", "name"), [(0, "message-id"), (3, "subject"), (9, "creation")])
def test_properties_of_a_wrong_type_are_refused_by_name(index: int, name: str) -> None:
    fields: list[object] = [None] * 13
    fields[index] = [True]
    with pytest.raises(MalformedMessage, match=name):
        parse_message(section(0x73, fields) + section(0x75, b"x"))


@pytest.mark.parametrize("kind", COMPOUND_PROPERTIES)
def test_a_property_that_is_no_simple_value_is_refused_by_name(kind: str) -> None:
    with pytest.raises(MalformedMessage, match="'colour' is a list"):
        parse_message(raw_message(data(b"x"), {"colour": COMPOUND_PROPERTIES[kind]}))


@pytest.mark.parametrize("kind", ODD_PROPERTIES)
def test_a_property_of_any_simple_type_is_kept_as_it_is(kind: str) -> None:
    encoded, _ = ODD_PROPERTIES[kind]
    kept = parse_message(raw_message(data(b"x"), {"p": encoded})).application_properties
    assert kept.raw == encode("p") + encoded


def test_properties_are_bounded_each_and_together() -> None:
    with pytest.raises(MessageTooLarge, match=r"'a' takes 32773 bytes, the limit is 32768"):
        parse_message(raw_message(data(b"x"), {"a": encode("y" * 32768)}))
    together = dict.fromkeys("abc", encode("y" * 25_000))
    with pytest.raises(MessageTooLarge, match="the limit is 65536"):
        parse_message(raw_message(data(b"x"), together))
