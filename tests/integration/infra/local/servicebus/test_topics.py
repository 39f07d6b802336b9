"""Topics hand each message to every subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import ServiceBusError

from tests.support.servicebus.broker import BrokerProcess
from tests.support.servicebus.sdk import Sdk, with_both_sdks

Names = Callable[[str], str]


@with_both_sdks
async def test_every_subscription_gets_every_message(
    sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    topic = names("topic")
    sender, one, two = await asyncio.gather(
        sdk.sender(topic=topic), sdk.receiver(topic, "one"), sdk.receiver(topic, "two")
    )
    await sender.send_messages([ServiceBusMessage(str(i)) for i in range(3)])
    for receiver in (one, two):
        received = await receiver.receive_messages(3)
        assert [str(message) for message in received] == ["0", "1", "2"]
        assert [message.enqueued_sequence_number for message in received] == [1, 2, 3]
        await receiver.complete_message(received[0])
        await receiver.abandon_message(received[1])
    for name in ("one", "two"):
        assert bus.depth(f"{topic}/Subscriptions/{name}")["active"] == 1


@with_both_sdks
async def test_a_subscription_has_its_own_dead_letter_queue(
    sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    topic = names("topic")
    sender, one, dead = await asyncio.gather(
        sdk.sender(topic=topic),
        sdk.receiver(topic, "one"),
        sdk.receiver(topic, "one", sub_queue=ServiceBusSubQueue.DEAD_LETTER),
    )
    await sender.send_messages(ServiceBusMessage("x"))
    (message,) = await one.receive_messages(1)
    await one.dead_letter_message(message, reason="why")
    (letter,) = await dead.receive_messages(1)
    assert letter.dead_letter_reason == "why"
    await dead.complete_message(letter)
    assert bus.depth(f"{topic}/Subscriptions/one")["dead_lettered"] == 0
    assert bus.depth(f"{topic}/Subscriptions/two")["active"] == 1


async def test_a_topic_holds_scheduled_messages_until_their_time(
    async_sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    topic = names("topic")
    sender, one = await asyncio.gather(
        async_sdk.sender(topic=topic), async_sdk.receiver(topic, "one")
    )
    due = datetime.now(UTC) + timedelta(seconds=5)
    keep, cancel = await sender.schedule_messages(
        [ServiceBusMessage("kept"), ServiceBusMessage("cancelled")], due
    )
    await sender.cancel_scheduled_messages(cancel)
    assert bus.depth(topic)["scheduled"] == 1
    (message,) = await one.receive_messages(1)
    assert str(message) == "kept"
    assert message.enqueued_sequence_number == keep
    assert message.enqueued_time_utc >= due - timedelta(milliseconds=1)
    await one.complete_message(message)


async def test_topics_and_subscriptions_refuse_what_is_not_theirs(
    async_sdk: Sdk, names: Names
) -> None:
    topic = names("topic")
    with pytest.raises(ServiceBusError, match="receive from one of its subscriptions"):
        await async_sdk.receiver(topic)
    with pytest.raises(ServiceBusError, match="does not accept messages from senders"):
        await async_sdk.sender(f"{topic}/Subscriptions/one")
