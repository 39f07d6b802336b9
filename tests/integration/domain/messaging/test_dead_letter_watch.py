"""Dead letters are counted for health, and what can never be processed is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from psycopg_pool import AsyncConnectionPool

from domain.contracts.amqp_decoding import complete_decoder
from domain.health import Health
from domain.messaging.dead_letter_watch import DeadLetterWatch
from domain.messaging.rejected import RejectedMessages
from domain.settings import Settings
from tests.support.application import background_ended
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess
from tests.support.servicebus.raw_messages import (
    ODD_PROPERTIES,
    TRACE_PROPERTIES,
    UNREADABLE_BODIES,
    raw_message,
    send_raw,
)

NO_ASCII = ODD_PROPERTIES["bytes"][0]


def watch_of(broker: BrokerProcess, pool: AsyncConnectionPool) -> DeadLetterWatch:
    settings = Settings.from_environment(
        {
            "DATABASE_URL": "postgresql://nowhere/qlp",
            "ServiceBusConnection": broker.connection_string,
        }
    )
    return DeadLetterWatch(settings, RejectedMessages(pool))


def health_of(watch: DeadLetterWatch) -> Health:
    health = Health.__new__(Health)
    health._dead_letters = watch
    return health


@pytest.fixture
def broker(servicebus: BrokerProcess) -> Iterator[BrokerProcess]:
    servicebus.reset()
    yield servicebus
    servicebus.reset()


async def test_what_can_never_be_processed_is_recorded_and_the_others_are_counted(
    broker: BrokerProcess, pool: AsyncConnectionPool
) -> None:
    complete_decoder()
    async with (
        ServiceBusClient.from_connection_string(broker.connection_string) as client,
        client.get_queue_sender("intents") as sender,
        client.get_queue_receiver("intents") as receiver,
    ):
        await sender.send_messages(ServiceBusMessage("failed", message_id="failed"))
        await send_raw(
            sender,
            *(
                raw_message(b, dict.fromkeys(TRACE_PROPERTIES, NO_ASCII), message_id=n)
                for n, b in UNREADABLE_BODIES.items()
            ),
        )
        for _ in range(1 + len(UNREADABLE_BODIES)):
            [message] = await receiver.receive_messages(1, max_wait_time=60)
            await receiver.dead_letter_message(message, reason="MaxDeliveryCountExceeded")
    watch = watch_of(broker, pool)
    assert await watch.look() == {"intents": 1}
    found = (await RejectedMessages(pool).list()).items
    assert {item.message_id for item in found} == set(UNREADABLE_BODIES)
    assert {(item.source, item.reason) for item in found} == {("intents", "UnsupportedBody")}
    assert await watch.look() == {"intents": 1}, "a second look finds nothing new"
    assert {item.deliveries for item in (await RejectedMessages(pool).list()).items} == {1}


async def test_health_is_degraded_while_there_are_any(
    broker: BrokerProcess, pool: AsyncConnectionPool
) -> None:
    watch = watch_of(broker, pool)
    check = health_of(watch)._check_dead_letters()
    assert (check.status, check.detail) == ("ok", {"note": "not counted yet"})
    await background_ended()  # the look that asking has begun
    assert health_of(watch)._check_dead_letters().status == "ok"
    async with (
        ServiceBusClient.from_connection_string(broker.connection_string) as client,
        client.get_queue_sender("sandbox-results") as sender,
        client.get_queue_receiver("sandbox-results") as receiver,
    ):
        await sender.send_messages(ServiceBusMessage("failed"))
        [message] = await receiver.receive_messages(1, max_wait_time=60)
        await receiver.dead_letter_message(message, reason="r")
    await watch.look()
    check = health_of(watch)._check_dead_letters()
    assert (check.status, check.detail["entities"]) == ("degraded", {"sandbox-results": 1})
    assert "qlp dead-letters list" in check.detail["problem"]


async def test_while_the_bus_is_away_what_was_known_stays(
    broker_process: BrokerFactory, pool: AsyncConnectionPool
) -> None:
    broker = broker_process()
    watch = watch_of(broker, pool)
    await watch.refresh()
    assert watch.counts() == {}
    broker.kill()
    async with asyncio.timeout(60):
        await watch.refresh()
    assert watch.counts() == {}
    await background_ended()
