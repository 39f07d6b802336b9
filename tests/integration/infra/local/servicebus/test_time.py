"""Messages appear and disappear at their times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import MessageNotFoundError

from tests.support.servicebus.broker import BrokerProcess
from tests.support.servicebus.sdk import Sdk, with_both_sdks

Names = Callable[[str], str]


def _is_empty(queue: str) -> Callable[[dict[str, Any]], bool]:
    return lambda health: set(health["entities"][queue].values()) == {0}


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@with_both_sdks
async def test_a_scheduled_message_arrives_at_its_time_and_not_before(
    sdk: Sdk, names: Names
) -> None:
    sender, receiver = await sdk.pair(names("steady"))
    due = in_seconds(5)
    (number,) = await sender.schedule_messages(ServiceBusMessage("later"), due)
    await sender.send_messages(ServiceBusMessage("attribute", scheduled_enqueue_time_utc=due))
    await sender.send_messages(ServiceBusMessage("now"))
    peeked = await receiver.peek_messages(10, sequence_number=1)
    assert [(str(m), int(m.state)) for m in peeked] == [("later", 2), ("attribute", 2), ("now", 0)]
    received = await receiver.receive_messages(3)
    while len(received) < 3:
        received += await receiver.receive_messages(3 - len(received))
    assert [str(message) for message in received] == ["now", "later", "attribute"]
    for message in received[1:]:
        assert message.enqueued_time_utc >= due - timedelta(milliseconds=1)
        assert message.enqueued_time_utc < due + timedelta(seconds=5)
        assert message.sequence_number > number
    for message in received:
        await receiver.complete_message(message)


@with_both_sdks
async def test_a_cancelled_message_never_arrives(
    sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender = await sdk.sender(queue)
    messages = [ServiceBusMessage(str(i)) for i in range(3)]
    numbers = await sender.schedule_messages(messages, in_seconds(60))
    assert bus.depth(queue)["scheduled"] == 3
    await sender.cancel_scheduled_messages(numbers)
    assert set(bus.depth(queue).values()) == {0}
    with pytest.raises(MessageNotFoundError):
        await sender.cancel_scheduled_messages(numbers[0])


async def test_an_expired_message_is_dead_lettered_where_configured(
    async_sdk: Sdk, names: Names
) -> None:
    queue = names("expiring")
    sender, dead = await asyncio.gather(
        async_sdk.sender(queue), async_sdk.receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)
    )
    await sender.send_messages(ServiceBusMessage("x"))
    (letter,) = await dead.receive_messages(1)
    assert letter.dead_letter_reason == "TTLExpiredException"
    await dead.complete_message(letter)


async def test_an_expired_message_is_dropped_elsewhere(
    async_sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    steady, dropping = names("steady"), names("dropping")
    first, second = await asyncio.gather(async_sdk.sender(steady), async_sdk.sender(dropping))
    own = ServiceBusMessage("own time to live", time_to_live=timedelta(seconds=5))
    await first.send_messages(own)
    longer = ServiceBusMessage("cut by the queue's", time_to_live=timedelta(hours=1))
    await second.send_messages(longer)
    assert bus.depth(steady)["active"] == bus.depth(dropping)["active"] == 1
    for queue in (steady, dropping):
        await asyncio.to_thread(bus.wait_for, _is_empty(queue))


async def test_peek_pages_through_everything_and_locks_nothing(
    async_sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender, receiver = await async_sdk.pair(queue)
    await sender.send_messages([ServiceBusMessage(str(i)) for i in range(25)])
    seen: list[str] = []
    while page := await receiver.peek_messages(10, sequence_number=len(seen) + 1):
        seen += [str(message) for message in page]
    assert seen == [str(i) for i in range(25)]
    assert bus.depth(queue)["active"] == 25


async def test_a_peeked_page_is_bounded_in_bytes(async_sdk: Sdk, names: Names) -> None:
    sender, receiver = await async_sdk.pair(names("steady"))
    for _ in range(4):
        await sender.send_messages(ServiceBusMessage(b"x" * 200_000))
    assert len(await receiver.peek_messages(10, sequence_number=1)) == 1
