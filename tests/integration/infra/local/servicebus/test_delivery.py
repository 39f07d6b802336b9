"""Nothing is lost or doubled, and receivers get no more than they asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from azure.servicebus import ServiceBusMessage, ServiceBusReceiveMode

from tests.support.servicebus.broker import BrokerProcess
from tests.support.servicebus.sdk import Handler, Sdk, with_both_sdks

Names = Callable[[str], str]


async def test_competing_receivers_share_a_thousand_messages_without_loss_or_repetition(
    sync_sdk: Sdk, async_sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender, *receivers = await asyncio.gather(
        async_sdk.sender(queue),
        *(sdk.receiver(queue, prefetch_count=20) for sdk in (sync_sdk, async_sdk) * 2),
    )
    seen: Counter[str] = Counter()
    per_receiver: Counter[int] = Counter()

    async def consume(index: int, receiver: Handler) -> None:
        while seen.total() < 1000:
            for message in await receiver.receive_messages(20, max_wait_time=1):
                await receiver.complete_message(message)
                seen[str(message)] += 1
                per_receiver[index] += 1

    async def produce() -> None:
        for start in range(0, 1000, 100):
            await sender.send_messages([ServiceBusMessage(str(start + i)) for i in range(100)])

    await asyncio.gather(produce(), *(consume(i, r) for i, r in enumerate(receivers)))
    assert seen == Counter(str(i) for i in range(1000))
    assert len(per_receiver) == 4
    await asyncio.to_thread(bus.wait_for, lambda h: set(h["entities"][queue].values()) == {0})


@with_both_sdks
async def test_a_batch_of_five_hundred_arrives_in_order(sdk: Sdk, names: Names) -> None:
    sender, receiver = await sdk.pair(names("steady"), prefetch_count=500)
    batch = await sender.create_message_batch()
    for index in range(500):
        batch.add_message(ServiceBusMessage(str(index), application_properties={"index": index}))
    await sender.send_messages(batch)
    received: list[Any] = []
    while len(received) < 500:
        received += await receiver.receive_messages(500 - len(received))
    assert [str(message) for message in received] == [str(index) for index in range(500)]
    assert [m.application_properties[b"index"] for m in received] == list(range(500))
    assert [message.sequence_number for message in received] == list(range(1, 501))


async def test_no_more_messages_are_locked_than_were_asked_for(
    async_sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender, receiver = await async_sdk.pair(queue)
    await sender.send_messages([ServiceBusMessage(str(i)) for i in range(20)])
    assert len(await receiver.receive_messages(3)) == 3
    assert bus.depth(queue) | {"bytes": 0} == {
        "active": 17,
        "locked": 3,
        "deferred": 0,
        "scheduled": 0,
        "dead_lettered": 0,
        "bytes": 0,
    }


async def test_prefetch_locks_up_to_its_count_ahead(
    async_sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender, receiver = await async_sdk.pair(queue, prefetch_count=5)
    await sender.send_messages([ServiceBusMessage(str(i)) for i in range(20)])
    (message,) = await receiver.receive_messages(1)
    await asyncio.to_thread(bus.wait_for, lambda h: h["entities"][queue]["locked"] == 6)
    await receiver.complete_message(message)


@with_both_sdks
async def test_large_messages_cross_several_frames_both_ways(sdk: Sdk, names: Names) -> None:
    sender, receiver = await sdk.pair(
        names("steady"), receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE, prefetch_count=9
    )
    bodies = [bytes([index]) * 250_000 for index in range(10)]
    for body in bodies:
        await sender.send_messages(ServiceBusMessage(body))
    received: list[bytes] = []
    while len(received) < 10:
        received += [b"".join(m.body) for m in await receiver.receive_messages(10)]
    assert received == bodies


async def test_a_waiting_receiver_gets_a_message_at_once(async_sdk: Sdk, names: Names) -> None:
    """The median of 20 round trips: a polling broker could not stay under its interval.

    On an idle machine it is a few milliseconds.
    """
    sender, receiver = await async_sdk.pair(names("steady"), prefetch_count=1)
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(20):
        waiting = asyncio.create_task(receiver.receive_messages(1))
        await asyncio.sleep(0.01)
        started = loop.time()
        await sender.send_messages(ServiceBusMessage("x"))
        (message,) = await waiting
        times.append(loop.time() - started)
        await receiver.complete_message(message)
    assert sorted(times)[10] < 0.5
