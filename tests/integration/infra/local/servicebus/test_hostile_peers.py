"""Whatever comes in on the socket, the broker neither stops nor hurts other connections."""

from __future__ import annotations

import asyncio
import os
import resource
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus._pyamqp.utils import generate_sas_token
from azure.servicebus.exceptions import ServiceBusQuotaExceededError

from infra.local.servicebus.amqp.answers import performative
from infra.local.servicebus.amqp.frames import AMQP_HEADER, EMPTY_FRAME, encode_frame
from infra.local.servicebus.broker.config import DEFAULT_CONFIG, load_config
from infra.local.servicebus.codec.types import UInt
from infra.local.servicebus.connection_string import KEY_NAME
from infra.local.servicebus.limits import Limits
from infra.local.servicebus.server import Broker
from tests.support.servicebus.sdk import Handler, Sdk, make_sdk

KEY = "0123456789abcdef" * 2
LIMITS = Limits(
    handshake_timeout=3.0,
    authentication_timeout=6.0,
    write_stall_timeout=1.0,
    close_timeout=0.5,
    max_entity_bytes=3 * 1024 * 1024,
)
OPEN = performative(0x10, "peer", None, UInt(65536), None, UInt(2000))


class Peer:
    """A socket that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, broker: Broker) -> Peer:
        return cls(*await asyncio.open_connection("127.0.0.1", broker.port))

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear_all(self, timeout: float = 30.0) -> bytes:
        """Everything until the broker hangs up, which it must."""
        heard = bytearray()
        async with asyncio.timeout(timeout):
            with suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    heard += data
        self.writer.close()
        return bytes(heard)


@pytest.fixture(scope="module")
async def broker() -> AsyncIterator[Broker]:
    broker = Broker(load_config(DEFAULT_CONFIG), KEY, limits=LIMITS)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture(scope="module")
async def honest(broker: Broker) -> AsyncIterator[tuple[Handler, Handler]]:
    """A sender and a receiver that were there before the attack."""
    sdk = make_sdk(broker.connection_string, asynchronous=True)
    yield await sdk.pair("intents", prefetch_count=1)
    await sdk.close_all()


@pytest.fixture(autouse=True)
async def others_are_unharmed(
    honest: tuple[Handler, Handler],
) -> AsyncIterator[None]:
    """After each attack, the honest connections still work."""
    yield
    sender, receiver = honest
    await sender.send_messages(ServiceBusMessage("still here"))
    (message,) = await receiver.receive_messages(1)
    assert str(message) == "still here"
    await receiver.complete_message(message)


def frame(body: bytes, channel: int = 0) -> bytes:
    return encode_frame(channel, body)


NESTED = b"\x00\x53\x10\xc0\xff\x01" + b"\xc0\xfa\x01" * 80
ATTACKS: dict[str, tuple[bytes, bytes]] = {
    "garbage": (os.urandom(4096), b""),
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b""),
    "frame over the limit": (
        AMQP_HEADER + frame(OPEN) + struct.pack(">IBBH", 2**31, 2, 0, 0),
        b"amqp:connection:framing-error",
    ),
    "frame shorter than its header": (
        AMQP_HEADER + frame(OPEN) + struct.pack(">IBBH", 4, 2, 0, 0),
        b"amqp:connection:framing-error",
    ),
    "truncated performative": (AMQP_HEADER + frame(OPEN) + frame(OPEN[:-9]), b"amqp:decode-error"),
    "nested lists": (AMQP_HEADER + frame(OPEN) + frame(NESTED), b"amqp:decode-error"),
    "a list that claims four billion items": (
        AMQP_HEADER + frame(OPEN) + frame(b"\x00\x53\x10\xd0\x00\x00\x00\x08\xff\xff\xff\xff" * 2),
        b"amqp:decode-error",
    ),
    "an array of nothing, many times": (
        AMQP_HEADER + frame(OPEN) + frame(b"\x00\x53\x11\xe0\x02\xff\x40"),
        b"amqp:decode-error",
    ),
    "wrong field types": (
        AMQP_HEADER + frame(OPEN) + frame(performative(0x11, "x", "y", None, None)),
        b"amqp:invalid-field",
    ),
    "a frame on a channel without session": (
        AMQP_HEADER + frame(OPEN) + frame(performative(0x14, UInt(0)), channel=3),
        b"amqp:not-allowed",
    ),
    "no open": (AMQP_HEADER + frame(performative(0x18, None)), b""),
    "two opens": (AMQP_HEADER + frame(OPEN) * 2, b"amqp:not-allowed"),
    "a spinning heartbeat": (
        AMQP_HEADER + frame(performative(0x10, "peer", None, None, None, UInt(1))),
        b"amqp:invalid-field",
    ),
    "a transfer without a link": (
        AMQP_HEADER
        + frame(OPEN)
        + frame(performative(0x11, None, UInt(0), UInt(9), UInt(9)))
        + frame(performative(0x14, UInt(7), UInt(0), b"t")),
        b"amqp:session:unattached-handle",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_protocol_error_ends_its_own_connection_with_a_condition(
    broker: Broker, attack: str
) -> None:
    data, condition = ATTACKS[attack]
    peer = await Peer.connect(broker)
    peer.say(data)
    assert condition in await peer.hear_all()


async def test_a_peer_that_says_nothing_is_cut_off(broker: Broker) -> None:
    peer = await Peer.connect(broker)
    peer.say(b"AMQP")
    assert await peer.hear_all(timeout=LIMITS.handshake_timeout + 20) == b""


async def test_a_peer_without_token_gets_no_link_and_is_cut_off(broker: Broker) -> None:
    peer = await Peer.connect(broker)
    source = b"\x00\x53\x28\xc0\x0a\x01\xa1\x07intents"
    attach = (b"\xa1\x01l", b"\x43", b"\x41", b"\x50\x00", b"\x50\x00", source, b"\x40")
    raw = b"".join(attach)
    peer.say(AMQP_HEADER + frame(OPEN))
    peer.say(frame(performative(0x11, None, UInt(0), UInt(9), UInt(9))))
    peer.say(frame(b"\x00\x53\x12\xc0" + bytes((len(raw) + 1, len(attach))) + raw))
    heard = await peer.hear_all(timeout=LIMITS.authentication_timeout + 20)
    assert heard.count(b"amqp:unauthorized-access") >= 2


async def test_an_idle_peer_is_closed_and_hears_heartbeats_until_then() -> None:
    limits = replace(LIMITS, idle_timeout=4, authentication_timeout=60)
    broker = Broker(load_config(DEFAULT_CONFIG), KEY, limits=limits)
    await broker.start()
    peer = await Peer.connect(broker)
    peer.say(AMQP_HEADER + frame(performative(0x10, "peer", None, None, None, UInt(1000))))
    heard = await peer.hear_all(timeout=limits.idle_timeout + 20)
    assert heard.count(EMPTY_FRAME) >= 2
    assert b"nothing was received for the idle timeout" in heard
    await broker.stop()


async def test_a_peer_that_never_reads_is_cut_off() -> None:
    limits = replace(LIMITS, max_entity_bytes=64 * 1024 * 1024)
    broker = Broker(load_config(DEFAULT_CONFIG), KEY, limits=limits)
    await broker.start()
    sdk = make_sdk(broker.connection_string, asynchronous=True)
    sender, receiver = await sdk.pair("intents", prefetch_count=500)
    await receiver.wrapped._handler._link.flow(link_credit=500)
    transport = receiver.wrapped._handler._connection._transport.writer.transport
    transport.pause_reading()
    for _ in range(60):
        await sender.send_messages(ServiceBusMessage(b"x" * 250_000))
    depth = broker.depths()["intents"]
    assert depth["active"] > 0, "the broker keeps writing to a peer that does not read"
    assert depth["locked"] > 0
    async with asyncio.timeout(limits.write_stall_timeout + 30):
        while broker.connections > 1:
            await asyncio.sleep(0.05)
    transport.abort()
    await sdk.close_all()
    await broker.stop()


async def test_a_connection_ends_with_its_token() -> None:
    broker = Broker(load_config(DEFAULT_CONFIG), KEY, limits=LIMITS)
    await broker.start()
    resource = f"sb://127.0.0.1:{broker.port}/intents"
    expiry = int(time.time()) + 7
    token = generate_sas_token(resource, KEY_NAME, KEY, expiry)  # type: ignore[no-untyped-call]
    sdk = make_sdk(
        f"Endpoint=sb://127.0.0.1:{broker.port};SharedAccessSignature={token};"
        "UseDevelopmentEmulator=true;",
        asynchronous=True,
    )
    await sdk.sender("intents")
    assert broker.connections == 1
    async with asyncio.timeout(40):
        while broker.connections:
            await asyncio.sleep(0.05)
    assert time.time() >= expiry
    await sdk.close_all()
    await broker.stop()


async def test_a_full_entity_refuses_with_a_quota_error_and_recovers(broker: Broker) -> None:
    sdk = make_sdk(broker.connection_string, asynchronous=True)
    sender, receiver = await sdk.pair("sandbox-results", prefetch_count=20)
    for _ in range(15):
        await sender.send_messages(ServiceBusMessage(b"x" * 200_000))
    with pytest.raises(ServiceBusQuotaExceededError, match="sandbox-results holds"):
        await sender.send_messages(ServiceBusMessage(b"x" * 200_000))
    left = 15
    while left:
        for message in await receiver.receive_messages(20):
            await receiver.complete_message(message)
            left -= 1
    await sender.send_messages(ServiceBusMessage(b"x" * 200_000))
    await sdk.close_all()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Both ends of a thousand connections are in this process; users often start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 4096
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this user may open {hard} files, {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
async def test_a_thousand_idle_connections_leave_room_for_others(broker: Broker) -> None:
    peers = [await Peer.connect(broker) for _ in range(1000)]
    for peer in peers:
        peer.say(AMQP_HEADER + frame(OPEN)[:10])
    sdk: Sdk = make_sdk(broker.connection_string, asynchronous=True)
    sender = await sdk.sender("intents")
    await sdk.close_all()
    assert sender is not None
    for peer in peers:
        peer.writer.close()


async def test_connections_over_the_limit_are_refused() -> None:
    limits = replace(LIMITS, max_connections=3, handshake_timeout=60)
    broker = Broker(load_config(DEFAULT_CONFIG), KEY, limits=limits)
    await broker.start()
    peers = [await Peer.connect(broker) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert await (await Peer.connect(broker)).hear_all() == b""
    peers[0].writer.close()
    for peer in peers[1:]:
        peer.say(AMQP_HEADER + frame(OPEN))
        async with asyncio.timeout(30):
            assert await peer.reader.readexactly(8) == AMQP_HEADER
        peer.writer.close()
    await broker.stop()
