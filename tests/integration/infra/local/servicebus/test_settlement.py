"""What a receiver says about a message is what happens to it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from azure.servicebus import (
    AutoLockRenewer,
    ServiceBusMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import AutoLockRenewer as AsyncAutoLockRenewer
from azure.servicebus.exceptions import MessageLockLostError

from tests.support.servicebus.broker import BrokerProcess
from tests.support.servicebus.sdk import Sdk, with_both_sdks

Names = Callable[[str], str]


@with_both_sdks
async def test_a_message_arrives_as_it_was_sent(sdk: Sdk, names: Names) -> None:
    sender, receiver = await sdk.pair(names("steady"))
    token = uuid.uuid4()
    await sender.send_messages(
        ServiceBusMessage(
            b"\x00body\xff",
            application_properties={
                "text": "Grüße",
                "number": -7,
                "flag": True,
                "id": token,
            },
            message_id="m-1",
            correlation_id="c-1",
            content_type="application/json",
            subject="intent",
            to="somewhere",
            reply_to="back",
            partition_key="p",
            time_to_live=timedelta(minutes=5),
        )
    )
    (message,) = await receiver.receive_messages(1)
    assert b"".join(message.body) == b"\x00body\xff"
    assert message.application_properties == {
        b"text": "Grüße".encode(),
        b"number": -7,
        b"flag": True,
        b"id": token,
    }
    assert (message.message_id, message.correlation_id) == ("m-1", "c-1")
    assert (message.content_type, message.subject) == ("application/json", "intent")
    assert (message.to, message.reply_to, message.partition_key) == ("somewhere", "back", "p")
    assert message.time_to_live == timedelta(minutes=5)
    assert message.delivery_count == 0
    assert message.sequence_number == 1
    assert message.expires_at_utc - message.enqueued_time_utc == timedelta(minutes=5)
    await receiver.complete_message(message)


@with_both_sdks
async def test_a_completed_message_is_gone(sdk: Sdk, names: Names, bus: BrokerProcess) -> None:
    queue = names("steady")
    sender, receiver = await sdk.pair(queue)
    await sender.send_messages(ServiceBusMessage("x"))
    (message,) = await receiver.receive_messages(1)
    assert bus.depth(queue)["locked"] == 1
    await receiver.complete_message(message)
    assert set(bus.depth(queue).values()) == {0}


@with_both_sdks
async def test_an_abandoned_message_comes_back_at_once_and_counted(sdk: Sdk, names: Names) -> None:
    sender, receiver = await sdk.pair(names("steady"))
    await sender.send_messages([ServiceBusMessage("first"), ServiceBusMessage("second")])
    for count in range(3):
        (message,) = await receiver.receive_messages(1)
        assert (str(message), message.delivery_count) == ("first", count)
        await receiver.abandon_message(message)


@with_both_sdks
async def test_a_dead_lettered_message_keeps_reason_and_description(
    sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender, receiver = await sdk.pair(queue)
    dead = await sdk.receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)
    await sender.send_messages(ServiceBusMessage("x", application_properties={"kept": 1}))
    (message,) = await receiver.receive_messages(1)
    await receiver.dead_letter_message(message, reason="poison", error_description="no program")
    (letter,) = await dead.receive_messages(1)
    assert (letter.dead_letter_reason, letter.dead_letter_error_description) == (
        "poison",
        "no program",
    )
    assert letter.application_properties[b"kept"] == 1
    assert str(letter) == "x"
    assert bus.depth(queue)["dead_lettered"] == 1
    await dead.complete_message(letter)
    assert set(bus.depth(queue).values()) == {0}


@with_both_sdks
async def test_a_deferred_message_is_received_by_its_sequence_number_only(
    sdk: Sdk, names: Names
) -> None:
    sender, receiver = await sdk.pair(names("steady"))
    await sender.send_messages([ServiceBusMessage("aside"), ServiceBusMessage("next")])
    (message,) = await receiver.receive_messages(1)
    await receiver.defer_message(message)
    (other,) = await receiver.receive_messages(1)
    assert str(other) == "next"
    await receiver.complete_message(other)
    for outcome in ("abandon_message", "complete_message"):
        (deferred,) = await receiver.receive_deferred_messages([message.sequence_number])
        assert str(deferred) == "aside"
        await getattr(receiver, outcome)(deferred)
    assert await receiver.peek_messages(10, sequence_number=1) == []


@with_both_sdks
async def test_receive_and_delete_removes_on_delivery(
    sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender, receiver = await sdk.pair(queue, receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE)
    await sender.send_messages([ServiceBusMessage(str(i)) for i in range(5)])
    received = await receiver.receive_messages(5)
    assert [str(message) for message in received] == ["0", "1", "2", "3", "4"]
    assert set(bus.depth(queue).values()) == {0}


@with_both_sdks
async def test_a_closed_receiver_releases_what_it_prefetched(
    sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender, receiver = await sdk.pair(queue, prefetch_count=20)
    await sender.send_messages([ServiceBusMessage(str(i)) for i in range(8)])
    (message,) = await receiver.receive_messages(1)
    await receiver.complete_message(message)
    await asyncio.to_thread(bus.wait_for, lambda h: h["entities"][queue]["locked"] == 7)
    await receiver.close()
    await asyncio.to_thread(bus.wait_for, lambda h: h["entities"][queue]["active"] == 7)
    other = await sdk.receiver(queue)
    again = await other.receive_messages(7)
    assert [message.delivery_count for message in again] == [0] * 7


@with_both_sdks
async def test_an_expired_lock_redelivers_with_a_raised_delivery_count(
    sdk: Sdk, names: Names
) -> None:
    queue = names("brief")
    (sender, receiver), other = await asyncio.gather(sdk.pair(queue), sdk.receiver(queue))
    await sender.send_messages(ServiceBusMessage("x"))
    (message,) = await receiver.receive_messages(1)
    (again,) = await other.receive_messages(1)
    assert (message.delivery_count, again.delivery_count) == (0, 1)
    assert again.sequence_number == message.sequence_number
    assert again.lock_token != message.lock_token
    with pytest.raises(MessageLockLostError):
        await receiver.complete_message(message)
    await other.complete_message(again)


@with_both_sdks
async def test_settling_after_the_broker_took_the_lock_back_raises(sdk: Sdk, names: Names) -> None:
    sender, receiver = await sdk.pair(names("brief"))
    await sender.send_messages(ServiceBusMessage("x"))
    (message,) = await receiver.receive_messages(1)
    # The client's own clock must not spare it the question.
    message._expiry = message.locked_until_utc + timedelta(hours=1)
    await asyncio.sleep(5.1)
    with pytest.raises(MessageLockLostError):
        await receiver.renew_message_lock(message)
    for outcome in ("complete_message", "abandon_message"):
        with pytest.raises(MessageLockLostError):
            await getattr(receiver, outcome)(message)


@with_both_sdks
async def test_too_many_deliveries_end_in_the_dead_letter_queue(sdk: Sdk, names: Names) -> None:
    queue = names("brief")
    (sender, receiver), dead = await asyncio.gather(
        sdk.pair(queue), sdk.receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)
    )
    await sender.send_messages(ServiceBusMessage("x"))
    for _ in range(3):
        (message,) = await receiver.receive_messages(1)
        await receiver.abandon_message(message)
    (letter,) = await dead.receive_messages(1)
    assert letter.dead_letter_reason == "MaxDeliveryCountExceeded"
    assert letter.delivery_count == 3
    await dead.complete_message(letter)


@with_both_sdks
async def test_a_renewed_lock_outlives_the_lock_duration(sdk: Sdk, names: Names) -> None:
    sender, receiver = await sdk.pair(names("brief"))
    await sender.send_messages(ServiceBusMessage("x"))
    (message,) = await receiver.receive_messages(1)
    first_end = message.locked_until_utc
    await asyncio.sleep(2.6)
    assert await receiver.renew_message_lock(message) > first_end
    await asyncio.sleep(2.6)
    await receiver.complete_message(message)


async def test_the_lock_renewer_keeps_a_lock_for_longer_than_it_lasts(
    sync_sdk: Sdk, async_sdk: Sdk, names: Names
) -> None:
    async def hold(sdk: Sdk) -> None:
        sender, receiver = await sdk.pair(names("renewed"))
        await sender.send_messages(ServiceBusMessage("x"))
        (message,) = await receiver.receive_messages(1)
        if sdk.asynchronous:
            async with AsyncAutoLockRenewer() as renewer:
                renewer.register(receiver.wrapped, message)
                await asyncio.sleep(4.2)
                await receiver.complete_message(message)
        else:
            with AutoLockRenewer(max_workers=2) as renewer:
                renewer.register(receiver.wrapped, message)
                await asyncio.sleep(4.2)
                await receiver.complete_message(message)
        assert message.auto_renew_error is None

    await asyncio.gather(hold(sync_sdk), hold(async_sdk))


async def test_locks_of_a_lost_connection_stand_until_they_expire(
    async_sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("brief")
    (sender, receiver), other = await asyncio.gather(
        async_sdk.pair(queue), async_sdk.receiver(queue)
    )
    await sender.send_messages(ServiceBusMessage("x"))
    (message,) = await receiver.receive_messages(1)
    receiver.wrapped._handler._connection._transport.writer.transport.abort()
    assert bus.depth(queue)["locked"] == 1
    (again,) = await other.receive_messages(1)
    assert again.delivery_count == message.delivery_count + 1
    assert again.enqueued_time_utc == message.enqueued_time_utc
    await other.complete_message(again)
