"""A message that fails comes again after growing pauses, and is lost by no crash."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from domain.contracts.amqp_decoding import complete_decoder
from domain.messaging.amqp_copy import decoded
from domain.messaging.publisher import ServiceBusPublisher
from domain.messaging.redelivery import FAILURE, MAX_TRIES, TRY, Delivery, Redelivery
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess

QUEUE = "intents"
FIRST_PAUSE = 0.01


class Queue:
    """The queue with its opened links: to open one takes half a second."""

    def __init__(self, sender: Any, receiver: Any, redelivery: Redelivery) -> None:
        self.sender = sender
        self.receiver = receiver
        self.redelivery = redelivery

    async def next(self) -> tuple[Any, Delivery]:
        [message] = await self.receiver.receive_messages(1, max_wait_time=60)
        return message, Delivery(
            entity=QUEUE,
            body=b"".join(message.body),
            message_id=message.message_id,
            subject=message.subject or "",
            correlation_id=message.correlation_id or "",
            properties=decoded(message.application_properties or {}),
            sequence_number=message.sequence_number,
            delivery_count=message.delivery_count + 1,
        )


@asynccontextmanager
async def redelivery_at(broker: BrokerProcess) -> AsyncIterator[Redelivery]:
    publisher = ServiceBusPublisher([], connection_string=broker.connection_string)
    yield Redelivery(publisher, FIRST_PAUSE)
    await publisher.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def opened(servicebus: BrokerProcess) -> AsyncIterator[Queue]:
    complete_decoder()
    async with (
        ServiceBusClient.from_connection_string(servicebus.connection_string) as client,
        client.get_queue_sender(QUEUE) as sender,
        client.get_queue_receiver(QUEUE, prefetch_count=0) as receiver,
        redelivery_at(servicebus) as redelivery,
    ):
        yield Queue(sender, receiver, redelivery)


@pytest.fixture
def queue(opened: Queue, servicebus: BrokerProcess) -> Queue:
    servicebus.reset()
    return opened


async def fails() -> None:
    raise KeyError("no such part")


async def database_is_away() -> None:
    raise psycopg.OperationalError("the server is gone")


async def test_a_message_that_fails_is_tried_again_after_growing_pauses_and_then_given_up(
    queue: Queue,
) -> None:
    properties: dict[Any, Any] = {
        "colour": "red",
        "large": {"TYPE": "LONG", "VALUE": 2**40},
        "uuid": UUID(int=7),
        "price": Decimal("1.5"),
    }
    await queue.sender.send_messages(
        ServiceBusMessage(
            b"\x00\xff",
            message_id="order-17",
            subject="s",
            correlation_id="c",
            application_properties=properties,
        )
    )
    postponed, pause = time.time(), 0.0
    for try_number in range(1, MAX_TRIES):
        message, delivery = await queue.next()
        assert time.time() - postponed >= 0.75 * pause
        assert delivery.try_number == try_number
        assert (delivery.body, delivery.subject) == (b"\x00\xff", "s")
        assert delivery.properties["large"] == 2**40
        assert delivery.properties["price"] == Decimal("1.5")
        postponed, pause = time.time(), FIRST_PAUSE * 4 ** (try_number - 1)
        await queue.redelivery.process(delivery, fails)
        await queue.receiver.complete_message(message)
    message, delivery = await queue.next()
    assert delivery.try_number == MAX_TRIES
    assert delivery.properties[FAILURE] == "KeyError: 'no such part'"
    assert delivery.message_id.startswith("order-17+")
    assert delivery.message_id.count("+") == 1
    with pytest.raises(KeyError):
        await queue.redelivery.process(delivery, fails)
    await queue.receiver.complete_message(message)


async def test_what_waits_for_the_database_is_never_given_up(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.messaging.redelivery.OUTAGE_PAUSE", 0.01)
    await queue.sender.send_messages(
        ServiceBusMessage("x", application_properties={TRY: MAX_TRIES})
    )
    for _ in range(3):
        message, delivery = await queue.next()
        assert delivery.try_number == MAX_TRIES
        await queue.redelivery.process(delivery, database_is_away)
        await queue.receiver.complete_message(message)
    message, _ = await queue.next()
    await queue.receiver.complete_message(message)


async def test_a_crash_between_the_copy_and_the_completion_leaves_both_and_copies_alike(
    queue: Queue,
) -> None:
    await queue.sender.send_messages(ServiceBusMessage("x", message_id="one"))
    message, first = await queue.next()
    await queue.redelivery.process(first, fails)
    await queue.receiver.abandon_message(message)  # as when its lock runs out
    found = []
    for _ in range(2):
        message, delivery = await queue.next()
        found.append(delivery)
        await queue.receiver.complete_message(message)
    original, copy = sorted(found, key=lambda each: each.message_id)
    assert (original.message_id, original.delivery_count, copy.try_number) == ("one", 2, 2)
    assert original.copy_id == first.copy_id == copy.message_id


async def test_where_no_copy_can_be_sent_the_message_is_given_back_after_a_pause(
    broker_process: BrokerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.messaging.publisher.SEND_SECONDS", 1.0)
    broker = broker_process()
    broker.kill()
    delivery = Delivery(QUEUE, b"x", str(uuid4()), "", "", {}, 1, 3)
    async with redelivery_at(broker) as redelivery:
        started = time.monotonic()
        with pytest.raises(KeyError):
            await redelivery.process(delivery, fails)
        assert time.monotonic() - started >= FIRST_PAUSE * 4**2


@pytest.mark.parametrize(
    "count", [0, -1, MAX_TRIES + 1, 10**30, "2", True, None, 1.0, float("nan")]
)
def test_an_untrusted_senders_count_of_earlier_tries_changes_nothing(count: object) -> None:
    assert Delivery(QUEUE, b"", "i", "", "", {TRY: count}, 1, 1).try_number == 1
