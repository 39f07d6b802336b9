"""Framing, performatives, tokens and addresses, each by itself."""

from __future__ import annotations

import pytest
from azure.servicebus._pyamqp._decode import decode_frame
from azure.servicebus._pyamqp.utils import generate_sas_token
from hypothesis import given
from hypothesis import strategies as st

from infra.local.servicebus.amqp.answers import (
    encode_begin,
    encode_disposition,
    encode_open,
    encode_transfer,
    modified_state,
    performative,
)
from infra.local.servicebus.amqp.cbs import SharedKey
from infra.local.servicebus.amqp.frames import FrameReader, encode_frame
from infra.local.servicebus.amqp.performatives import Flow, parse
from infra.local.servicebus.broker.config import parse_config
from infra.local.servicebus.broker.deadlines import Deadlines, ReadyQueue
from infra.local.servicebus.broker.namespace import Namespace, parse_address
from infra.local.servicebus.codec.types import UInt
from infra.local.servicebus.errors import (
    EntityNotFound,
    NotAllowed,
    ProtocolError,
    Unauthorized,
)
from tests.support.servicebus.entities import FakeClock

KEY = "0123456789abcdef"


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 30))
def test_frames_are_cut_out_of_any_chunks(bodies: list[bytes], size: int) -> None:
    stream = b"".join(encode_frame(index, body) for index, body in enumerate(bodies))
    reader = FrameReader(1000)
    seen = []
    for start in range(0, len(stream), size):
        reader.feed(stream[start : start + size])
        while (frame := reader.frame()) is not None:
            seen.append(frame)
    assert seen == [(0, index, body) for index, body in enumerate(bodies)]


@pytest.mark.parametrize("head", ["7fffffff02000000", "0000000702000000", "0000001001000000"])
def test_bad_frame_headers_are_refused_before_their_bodies_arrive(head: str) -> None:
    reader = FrameReader(1000)
    reader.feed(bytes.fromhex(head))
    with pytest.raises(ProtocolError):
        reader.frame()


@given(st.binary(max_size=100))
def test_any_frame_body_parses_or_is_refused(body: bytes) -> None:
    for data in (body, b"\x00\x53\x13" + body):
        try:
            parse(data)
        except ProtocolError:
            continue


def test_short_performatives_are_filled_up_and_long_ones_cut() -> None:
    frame, end = parse(performative(0x13, None, UInt(1), UInt(2), UInt(3)) + b"payload")
    assert isinstance(frame, Flow)
    assert (frame.incoming_window, frame.handle, frame.drain) == (1, None, None)
    assert end == len(performative(0x13, None, UInt(1), UInt(2), UInt(3)))


def test_the_sdk_reads_our_hand_packed_frames() -> None:
    code, fields = decode_frame(memoryview(encode_transfer(3, 300, b"t" * 16, True, False) + b"p"))
    assert (code, fields[:6]) == (0x14, [3, 300, b"t" * 16, 0, True, False])
    assert bytes(fields[11]) == b"p"
    state = modified_state(delivery_failed=True, undeliverable_here=False)
    code, fields = decode_frame(memoryview(encode_disposition(False, 5, 5, state)))
    assert (code, fields[:4]) == (0x15, [False, 5, 5, True])
    assert list(fields[4]) == ["modified"]
    assert decode_frame(memoryview(encode_open("c", 65536, 63, 1000)))[1][2:5] == [65536, 63, 1000]
    assert decode_frame(memoryview(encode_begin(1, 0, 10, 255)))[1][:5] == [1, 0, 10, 10, 255]


def sas(resource: str, key: str = KEY, name: str = "root", expiry: int = 2000) -> str:
    return str(generate_sas_token(resource, name, key, expiry))  # type: ignore[no-untyped-call]


def test_a_token_of_the_sdk_grants_its_path_and_what_is_below() -> None:
    shared_key = SharedKey("root", KEY, FakeClock())
    grant = shared_key.verify(sas("sb://127.0.0.1:5672/Queue"))
    assert grant.covers("queue")
    assert grant.covers("queue/$deadletterqueue")
    assert not grant.covers("queue-2")
    assert grant.expires_at == 2_000_000
    assert shared_key.verify(sas("sb://127.0.0.1:5672/")).covers("anything")


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "Bearer x",
        "SharedAccessSignature ",
        "SharedAccessSignature sr=&sig=&se=&skn=",
        sas("sb://h/q", key="another key"),
        sas("sb://h/q", name="another name"),
        sas("sb://h/q", expiry=1000),
        sas("sb://h/q").replace("se=2000", "se=9999"),
        sas("sb://h/q").replace("%2Fq", "%2Fother"),
        "SharedAccessSignature " + "x" * 5000,
    ],
)
def test_a_token_that_is_not_good_is_refused(token: object) -> None:
    with pytest.raises(Unauthorized):
        SharedKey("root", KEY, FakeClock()).verify(token)


@pytest.fixture
def namespace() -> Namespace:
    text = """{"UserConfig": {"Namespaces": [{"Name": "n", "Queues": [{"Name": "Q"}],
    "Topics": [{"Name": "T", "Subscriptions": [{"Name": "S"}]}]}]}}"""
    return Namespace(parse_config(text), FakeClock(), 1000)


def test_addresses_are_found_in_any_case(namespace: Namespace) -> None:
    for text, path in [
        ("amqps://127.0.0.1:5672/q", "Q"),
        ("Q/$DeadLetterQueue", "Q/$DeadLetterQueue"),
        ("amqps://h/T/Subscriptions/s", "T/Subscriptions/S"),
        ("t/subscriptions/S/$deadletterqueue", "T/Subscriptions/S/$DeadLetterQueue"),
    ]:
        assert namespace.source(parse_address(text).path).path == path
    assert parse_address("q/$management").management
    assert namespace.target("t").path == "T"


@pytest.mark.parametrize("text", [None, 5, "", "x" * 5000, "amqps://[/q"])
def test_a_wrong_address_is_not_found(text: object) -> None:
    with pytest.raises(EntityNotFound):
        parse_address(text)


def test_directions_are_checked(namespace: Namespace) -> None:
    with pytest.raises(NotAllowed):
        namespace.source("t")
    for path in ("q/$deadletterqueue", "t/subscriptions/s"):
        with pytest.raises(NotAllowed):
            namespace.target(path)
    for path in ("", "none", "t/subscriptions/none"):
        with pytest.raises(EntityNotFound):
            namespace.target(path)


def test_deadlines_that_are_taken_back_take_no_memory() -> None:
    deadlines = Deadlines()
    for key in range(10_000):
        deadlines.set(key, key + 5)
        deadlines.set(key, key + 9)
        deadlines.set(key, None)
    assert len(deadlines._heap) < 100
    deadlines.set(1, 7)
    assert (deadlines.pop_due(6), deadlines.pop_due(7), deadlines.pop_due(8)) == (None, 1, None)


def test_numbers_that_left_the_queue_take_no_memory() -> None:
    queue = ReadyQueue()
    for number in range(10_000):
        queue.add(number)
        queue.discard(number)
    assert (len(queue), queue.first()) == (0, None)
    assert len(queue._heap) < 100
