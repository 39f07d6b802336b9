"""What reaches the bus of what is recorded, by one process and by several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
from azure.servicebus import ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient

from domain.app import App, open_app
from domain.contracts.envelope import Envelope
from domain.eventlog.models import RecordedEvent
from domain.messaging.publisher import OutgoingMessage, Publisher, PublishFailed
from domain.messaging.relay import Relay
from domain.settings import Settings
from tests.support import application
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database, everything
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess
from tests.support.waiting import until

TOPIC, SUBSCRIPTION = "intent-events", "process-manager"


@pytest.fixture
def broker(broker_process: BrokerFactory) -> BrokerProcess:
    return broker_process()


@pytest.fixture
async def apps(database: Database, broker: BrokerProcess) -> AsyncIterator[list[App]]:
    """The application as it is in three processes, where somebody subscribes to every event."""
    settings = Settings.from_environment(
        {
            "DATABASE_URL": database.url,
            "ServiceBusConnection": broker.connection_string,
            "QLP_ANNOUNCE_EVERY_EVENT": "true",
        }
    )
    opened = await asyncio.gather(*(open_app(settings) for _ in range(3)))
    for app in opened:
        await until(partial(_has_looked, app))
    yield opened
    await asyncio.gather(*map(application.close, opened))


def _has_looked(app: App) -> bool:
    """Whether the relay has looked at the log once, as it does when it begins."""
    return app.relay._running is not None and app.relay._running.done()


async def announced(broker: BrokerProcess, count: int) -> list[tuple[str, str, int]]:
    """Message id, intent and version of so many announcements, in the order of their arrival."""
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    found: list[tuple[str, str, int]] = []
    async with (
        ServiceBusClient.from_connection_string(broker.connection_string) as client,
        client.get_subscription_receiver(TOPIC, SUBSCRIPTION, receive_mode=mode) as receiver,
    ):
        while len(found) < count:
            page = await receiver.receive_messages(count - len(found), max_wait_time=20)
            assert page
            for message in page:
                told = Envelope.decode(b"".join(message.body))
                found.append((str(message.message_id), str(told.subject), told.data["version"]))
        assert await receiver.receive_messages(1, max_wait_time=1) == []
    return found


async def test_processes_share_what_there_is_and_publish_each_stream_in_order(
    apps: list[App], broker: BrokerProcess
) -> None:
    recorder = Recorder(apps[0].pool)
    for _ in range(40):
        await recorder.running()
    counts = await asyncio.gather(*(app.relay.run_until_caught_up() for app in apps))
    assert sum(counts) == 40 * 3
    assert sum(count > 0 for count in counts) > 1
    found = await announced(broker, 40 * 3)
    events = await everything(apps[0].repository._log)
    assert sorted(id_ for id_, *_ in found) == sorted(str(event.event_id) for event in events)
    versions: dict[str, list[int]] = {}
    for _, intent, version in found:
        versions.setdefault(intent, []).append(version)
    assert all(seen == [1, 2, 3] for seen in versions.values())


async def test_what_is_recorded_while_another_process_publishes_is_not_left_behind(
    apps: list[App], broker: BrokerProcess
) -> None:
    async def write(app: App) -> None:
        recorder = Recorder(app.pool)
        for _ in range(15):
            intent = await recorder.running()
            app.relay.wake(f"intent-{intent}")  # and no timer runs

    await asyncio.gather(*map(write, apps))
    await announced(broker, 3 * 15 * 3)
    assert await apps[0].relay.run_until_caught_up() == 0


class Failing:
    """Sends through ``publisher``, and then raises ``errors``, one for each of the first sends."""

    def __init__(self, publisher: Publisher, errors: list[BaseException]) -> None:
        self._publisher = publisher
        self._errors = errors

    async def open(self) -> None:
        await self._publisher.open()

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        await self._publisher.send(messages)
        if self._errors:
            raise self._errors.pop()


@pytest.mark.parametrize("error", [PublishFailed("not confirmed"), asyncio.CancelledError()])
async def test_what_was_sent_but_not_recorded_is_sent_again_under_its_ids(
    apps: list[App], broker: BrokerProcess, error: BaseException
) -> None:
    app = apps[0]
    await Recorder(app.pool).running()

    async def reject(record: RecordedEvent, error: Exception) -> None:
        raise error

    relay = Relay(app.pool, app.relay._router, Failing(app.publisher, [error]), reject)
    with pytest.raises(type(error)):
        await relay.run_until_caught_up()
    assert await apps[1].relay.run_until_caught_up() == 3
    ids = [id_ for id_, *_ in await announced(broker, 6)]
    assert ids[:3] == ids[3:]


async def test_a_call_to_publish_ends_in_time_and_the_relay_goes_on(
    apps: list[App], broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.messaging.relay.PAGE", 1)
    await Recorder(apps[0].pool).running()
    assert await apps[0].relay.run_until_caught_up(seconds=0) == 1
    seen: list[object] = []
    reading = asyncio.create_task(announced(broker, 3))
    reading.add_done_callback(seen.append)
    await until(lambda: seen)
    assert [version for *_, version in await reading] == [1, 2, 3]
