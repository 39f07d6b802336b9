"""What follows from a command at once: recorded with it, and sent behind the commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from azure.servicebus.aio import ServiceBusClient

from domain.access.store import ApiKeys
from domain.app import App, open_app
from domain.application.handler import CommandHandler
from domain.intents.commands import KillRun, RecordRun, SubmitIntent
from domain.intents.content import IntentContent
from domain.intents.ids import new_id
from domain.intents.next_step import react
from domain.intents.run_decisions import run_id_of
from domain.intents.state import IntentState
from domain.settings import Settings
from tests.support import application
from tests.support.intents.histories import TRACE
from tests.support.intents.specification import CONTENT, NOW, OUTAGE, SENTENCE, SUCCESS
from tests.support.postgres import Database
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess

JOBS, TOPIC, SUBSCRIPTION = "sandbox-jobs", "intent-events", "process-manager"


@pytest.fixture
def broker(broker_process: BrokerFactory) -> BrokerProcess:
    return broker_process()


@pytest.fixture
async def apps(database: Database, broker: BrokerProcess) -> AsyncIterator[list[App]]:
    """The application as it is in two processes, without timers and triggers."""
    settings = Settings.from_environment(
        {"DATABASE_URL": database.url, "ServiceBusConnection": broker.connection_string}
    )
    opened = [await open_app(settings) for _ in range(2)]
    await ApiKeys(opened[0].pool).ensure_tenant("acme")
    yield opened
    for app in opened:
        await application.close(app)


async def lying(broker: BrokerProcess, entity: str) -> list[str]:
    """The ids of the messages in a queue, or in the process manager's subscription."""
    async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        receiver = (
            client.get_subscription_receiver(TOPIC, SUBSCRIPTION)
            if entity == TOPIC
            else client.get_queue_receiver(entity)
        )
        async with receiver:
            return [str(message.message_id) for message in await receiver.peek_messages(500)]


async def submit(app: App, content: IntentContent = CONTENT) -> IntentState:
    handled = await app.service.submit("acme", content, origin="http", key=None, traceparent=TRACE)
    return handled.state


def crashing(app: App) -> CommandHandler:
    """A handler whose process dies right behind the commit: it sends nothing."""
    return CommandHandler(app.repository, lambda _change: None, app.service._handler._steps)


async def test_a_submitted_program_is_accepted_planned_and_requested_in_one_append(
    apps: list[App], broker: BrokerProcess
) -> None:
    state = await submit(apps[0])
    records = await apps[0].repository.history(state.id)
    assert [record.type for record in records] == [
        *("IntentSubmitted", "IntentPlanned", "SandboxRunRequested")
    ]
    assert len({(record.command_id, record.recorded_at) for record in records}) == 1
    await application.background_sent()
    assert await lying(broker, JOBS) == [str(run_id_of(state.id, 1))]
    assert await lying(broker, TOPIC) == []  # nobody else has anything to do


@pytest.mark.parametrize("relay_of", [0, 1])
async def test_what_was_sent_is_not_sent_again_by_the_relay_of_any_process(
    apps: list[App], broker: BrokerProcess, relay_of: int
) -> None:
    runs = [str(run_id_of((await submit(apps[0])).id, 1)) for _ in range(5)]
    await application.background_sent()
    assert await apps[relay_of].relay.run_until_caught_up() == 0  # too young
    assert await apps[relay_of].relay.run_until_caught_up(min_age=0) == 5 * 3
    assert sorted(await lying(broker, JOBS)) == sorted(runs)


async def test_what_a_process_that_died_has_not_sent_another_one_sends(
    apps: list[App], broker: BrokerProcess
) -> None:
    intent_id = new_id()
    command = SubmitIntent(intent_id, "acme", CONTENT, "http", NOW)
    handled = await crashing(apps[0]).handle(intent_id, command, traceparent=TRACE)
    assert react(handled.state) is None
    assert await lying(broker, JOBS) == []
    assert await apps[1].relay.run_until_caught_up(min_age=0) == 3
    assert await lying(broker, JOBS) == [str(run_id_of(intent_id, 1))]


async def test_while_the_bus_is_away_intents_are_accepted_and_their_jobs_sent_later(
    apps: list[App], broker: BrokerProcess
) -> None:
    broker.kill()
    during = await submit(apps[0])
    await application.background_sent()
    broker.restart()
    await apps[0].relay.run_until_caught_up(min_age=0)
    assert await lying(broker, JOBS) == [str(run_id_of(during.id, 1))]


async def test_a_sentence_that_was_solved_is_planned_when_it_is_accepted(
    apps: list[App], broker: BrokerProcess
) -> None:
    solved = await submit(apps[0])
    await apps[0].service._handler.handle(
        solved.id, RecordRun(run_id_of(solved.id, 1), SUCCESS, NOW), traceparent=TRACE
    )
    again = await submit(apps[1], SENTENCE)
    assert (again.status, again.plan_source, again.reused_from) == (
        *("running", "reused", solved.id),
    )
    await application.background_sent()
    assert str(run_id_of(again.id, 1)) in await lying(broker, JOBS)
    assert await lying(broker, TOPIC) == []


async def test_a_sentence_without_a_program_is_announced_at_once(
    apps: list[App], broker: BrokerProcess
) -> None:
    state = await submit(apps[0], SENTENCE)
    assert (state.status, state.version) == ("submitted", 1)
    await application.background_sent()
    [record] = await apps[0].repository.history(state.id)
    assert await lying(broker, TOPIC) == [str(record.event_id)]
    assert await lying(broker, JOBS) == []


async def test_a_run_that_failed_on_its_host_is_requested_again_with_its_result(
    apps: list[App], broker: BrokerProcess
) -> None:
    state = await submit(apps[0])
    handled = await apps[0].service._handler.handle(
        state.id, RecordRun(run_id_of(state.id, 1), OUTAGE, NOW), traceparent=TRACE
    )
    assert [run.attempt for run in handled.state.runs] == [1, 2]
    await application.background_sent()
    assert await lying(broker, TOPIC) == []


async def test_nothing_is_refused_because_of_what_is_remembered(apps: list[App]) -> None:
    state = await submit(apps[0])
    here, there = (app.service._handler for app in apps)
    outage = RecordRun(run_id_of(state.id, 1), OUTAGE, NOW)
    await there.handle(state.id, outage, traceparent=TRACE)
    remembered = apps[0].repository.recent(state.id)
    assert remembered is not None
    assert remembered.version == 3
    second = run_id_of(state.id, 2)
    killed = await here.handle(state.id, KillRun(second, "ops", None, NOW), traceparent=TRACE)
    assert killed.changed
    repeated = await there.handle(state.id, outage, traceparent=TRACE)
    assert not repeated.changed
    ended = await there.handle(state.id, RecordRun(second, SUCCESS, NOW), traceparent=TRACE)
    assert ended.state.status == "succeeded"


async def test_a_submission_that_is_repeated_by_two_processes_is_one_intent(
    apps: list[App], broker: BrokerProcess
) -> None:
    async def repeat(app: App) -> UUID:
        handled = await app.service.submit(
            "acme", CONTENT, origin="http", key="once", traceparent=TRACE
        )
        return handled.state.id

    ids = set(await asyncio.gather(*(repeat(app) for app in apps for _ in range(10))))
    assert len(ids) == 1
    await application.background_sent()
    assert await lying(broker, JOBS) == [str(run_id_of(ids.pop(), 1))]
