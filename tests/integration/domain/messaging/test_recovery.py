"""What is lost is published again, and nothing else: a real log, a real bus, and no consumer."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusReceiveMode, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient

from domain.access.limits import TenantLimits
from domain.app import App, open_app
from domain.contracts.envelope import Envelope
from domain.intents.commands import RecordPlan, RequestRun
from domain.intents.content import Limits, Program
from domain.intents.event_parts import PlannedStep
from domain.intents.run_decisions import run_id_of
from domain.intents.struct import checked
from domain.messaging import backlog
from domain.settings import Settings
from tests.support import application
from tests.support.intents.recorder import TRACEPARENT, Recorder
from tests.support.postgres import Database
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess

JOBS, RESULTS, TOPIC, SUBSCRIPTION = (
    *("sandbox-jobs", "sandbox-results"),
    *("intent-events", "process-manager"),
)


@pytest.fixture
def broker(broker_process: BrokerFactory) -> BrokerProcess:
    return broker_process()


@pytest.fixture
async def app(database: Database, broker: BrokerProcess) -> AsyncIterator[App]:
    settings = Settings.from_environment(
        {"DATABASE_URL": database.url, "ServiceBusConnection": broker.connection_string}
    )
    app = await open_app(settings)
    yield app
    await application.close(app)


@pytest.fixture
async def bus(broker: BrokerProcess) -> AsyncIterator[ServiceBusClient]:
    async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        yield client


async def take(bus: ServiceBusClient, queue: str, most: int) -> list[str]:
    """Remove the first messages of a queue; their ids."""
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with bus.get_queue_receiver(queue, receive_mode=mode) as receiver:
        taken: list[str] = []
        while len(taken) < most:
            page = await receiver.receive_messages(most - len(taken), max_wait_time=20)
            assert page
            taken += [str(message.message_id) for message in page]
        return taken


async def hear(bus: ServiceBusClient, announcements: int) -> None:
    """Take so many announcements away."""
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with bus.get_subscription_receiver(TOPIC, SUBSCRIPTION, receive_mode=mode) as receiver:
        heard = 0
        while heard < announcements:
            page = await receiver.receive_messages(announcements - heard, max_wait_time=20)
            assert page
            heard += len(page)


async def lying(bus: ServiceBusClient, queue: str) -> list[str]:
    async with bus.get_queue_receiver(queue) as receiver:
        return [str(each.message_id) for each in await receiver.peek_messages(500)]


def overdue(database: Database) -> None:
    """All intents have not moved for an hour, and are to be looked at."""
    with psycopg.connect(database.admin_url) as owner:
        owner.execute(
            "update intent_states set expected_by = now() - interval '1 hour'"
            " where expected_by is not null"
        )
        owner.execute("update intent_recovery set next_attempt_at = now()")


async def jobs_in_the_queue(app: App, bus: ServiceBusClient, count: int) -> list[UUID]:
    """Intents whose runs wait for a sandbox host, in the queue's order.

    What was announced of them has been heard.
    """
    recorder = Recorder(app.pool)
    intents = {
        run_id_of(intent, 1): intent for intent in [await recorder.running() for _ in range(count)]
    }
    await app.relay.run_until_caught_up(min_age=0)
    await hear(bus, 2 * count)  # that it was submitted and planned; the host is asked by its job
    return [intents[UUID(job)] for job in await lying(bus, JOBS)]


def runs_of(intents: list[UUID]) -> list[str]:
    return [str(run_id_of(intent_id, 1)) for intent_id in intents]


async def attempts(app: App) -> list[int]:
    async with app.pool.connection() as connection:
        rows = await connection.execute("select attempts from intent_recovery order by 1")
        return [attempts for (attempts,) in await rows.fetchall()]


async def test_what_waits_for_a_host_is_not_published_again(
    app: App, bus: ServiceBusClient, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    intents = await jobs_in_the_queue(app, bus, 30)
    runs = runs_of(intents)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            overdue(database)
            assert await app.recovery.run() == 0
    assert not caplog.records
    assert await lying(bus, JOBS) == runs
    assert await attempts(app) == [0] * 30  # none was tried, so none is tried later for it


async def test_exactly_what_is_lost_is_published_again(
    app: App, bus: ServiceBusClient, database: Database
) -> None:
    runs = runs_of(await jobs_in_the_queue(app, bus, 12))
    lost = await take(bus, JOBS, 5)
    overdue(database)
    assert await app.recovery.run() == 5
    assert sorted(await lying(bus, JOBS)) == sorted(runs)
    assert set(lost) <= set(await lying(bus, JOBS))
    assert await attempts(app) == [0] * 7 + [1] * 5


async def test_a_job_in_the_hands_of_a_host_is_not_lost(
    app: App, bus: ServiceBusClient, database: Database
) -> None:
    [run] = runs_of(await jobs_in_the_queue(app, bus, 1))
    async with bus.get_queue_receiver(JOBS) as host:
        [message] = await host.receive_messages(1, max_wait_time=20)
        overdue(database)
        assert await app.recovery.run() == 0
        await host.dead_letter_message(message, reason="test")
    overdue(database)
    assert await app.recovery.run() == 1
    assert await lying(bus, JOBS) == [run]


async def test_a_job_that_nobody_will_receive_is_lost(
    app: App, bus: ServiceBusClient, database: Database
) -> None:
    [run] = runs_of(await jobs_in_the_queue(app, bus, 1))
    async with bus.get_queue_receiver(JOBS) as host:
        [message] = await host.receive_messages(1, max_wait_time=20)
        await host.defer_message(message)
    overdue(database)
    assert await app.recovery.run() == 1
    assert await lying(bus, JOBS) == [run, run]


async def test_looking_takes_nothing_and_counts_for_nothing(
    app: App, bus: ServiceBusClient, database: Database
) -> None:
    await jobs_in_the_queue(app, bus, 1)
    for _ in range(2):
        overdue(database)
        assert await app.recovery.run() == 0
    async with bus.get_queue_receiver(JOBS) as host:
        [message] = await host.receive_messages(1, max_wait_time=20)
        assert message.delivery_count == 0
    async with bus.get_queue_receiver(JOBS, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as letters:
        assert await letters.peek_messages() == []


async def test_a_result_that_waits_for_us_is_progress(
    app: App, bus: ServiceBusClient, database: Database
) -> None:
    [intent_id] = await jobs_in_the_queue(app, bus, 1)
    await take(bus, JOBS, 1)
    async with bus.get_queue_sender(RESULTS) as host:
        await host.send_messages(ServiceBusMessage("{}", correlation_id=str(intent_id)))
    overdue(database)
    assert await app.recovery.run() == 0
    await take(bus, RESULTS, 1)
    overdue(database)
    assert await app.recovery.run() == 1


async def test_announcements_that_wait_are_not_repeated_and_lost_ones_are(
    app: App, bus: ServiceBusClient, database: Database
) -> None:
    await Recorder(app.pool).submitted()
    await app.relay.run_until_caught_up(min_age=0)
    overdue(database)
    assert await app.recovery.run() == 0
    await hear(bus, 1)  # as by a worker that died; the message is gone
    overdue(database)
    assert await app.recovery.run() == 1
    await hear(bus, 1)


async def test_what_the_relay_has_not_come_to_is_not_lost(
    app: App, bus: ServiceBusClient, database: Database
) -> None:
    intents = [await Recorder(app.pool).running() for _ in range(3)]
    overdue(database)
    assert await app.recovery.run() == 0
    await app.relay.run_until_caught_up(min_age=0)
    assert sorted(await lying(bus, JOBS)) == sorted(runs_of(intents))


async def test_a_look_is_bounded_and_what_may_lie_behind_it_is_left_alone(
    app: App, bus: ServiceBusClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_LOOKED_AT", 10)
    monkeypatch.setattr(backlog, "_PAGE", 5)
    runs = runs_of(await jobs_in_the_queue(app, bus, 30))
    assert await take(bus, JOBS, 2) == runs[:2]
    async with bus.get_queue_receiver(JOBS) as host:
        held = await host.receive_messages(28, max_wait_time=20)
        while len(held) < 28:
            held += await host.receive_messages(28 - len(held), max_wait_time=20)
        await host.complete_message(held.pop())  # the last one is lost, far behind
        for message in held:
            await host.abandon_message(message)
    overdue(database)
    assert await app.recovery.run() == 0
    await take(bus, JOBS, 20)  # the queue gets shorter, and what is not there is lost
    overdue(database)
    assert await app.recovery.run() == 2 + 1 + 20
    assert sorted(await lying(bus, JOBS)) == sorted(runs)


async def test_each_run_of_a_plan_is_looked_for_by_itself(
    app: App, bus: ServiceBusClient, database: Database
) -> None:
    recorder = Recorder(app.pool)
    intent_id = await recorder.submitted()
    program = checked(Program, {"language": "python", "files": {"main.py": "1"}})
    now, limits = datetime.now(UTC), TenantLimits().resolve(Limits())
    steps = (PlannedStep("a", program), PlannedStep("b", program))
    for command in (
        RecordPlan("submitted", None, None, None, now, steps=steps),
        RequestRun(limits, now, "a"),
        RequestRun(limits, now, "b"),
    ):
        await recorder._handler.handle(intent_id, command, traceparent=TRACEPARENT)
    await app.relay.run_until_caught_up(min_age=0)
    await hear(bus, 3)
    first, second = await lying(bus, JOBS)
    assert await take(bus, JOBS, 1) == [first]  # not that of the last event
    overdue(database)
    assert await app.recovery.run() == 1
    assert await lying(bus, JOBS) == [second, first]


async def test_while_the_bus_cannot_be_seen_nothing_is_judged_and_afterwards_all_is_found(
    app: App,
    broker: BrokerProcess,
    database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ServiceBusClient.from_connection_string(broker.connection_string) as before:
        intents = await jobs_in_the_queue(app, before, 5)
    broker.kill()
    overdue(database)
    assert await app.recovery.run() == 0
    assert "the bus cannot be seen" in caplog.text
    broker.start()  # it kept its messages in memory: all are gone
    overdue(database)
    assert await app.recovery.run() == 5
    async with ServiceBusClient.from_connection_string(broker.connection_string) as after:
        assert sorted(await lying(after, JOBS)) == sorted(runs_of(intents))
        async with after.get_queue_receiver(JOBS) as host:
            [job, *_] = await host.receive_messages(1, max_wait_time=20)
            assert Envelope.decode(b"".join(job.body)).id in runs_of(intents)
