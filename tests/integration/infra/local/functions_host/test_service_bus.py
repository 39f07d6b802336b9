"""Service Bus triggers on a real broker: settled as on Azure, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient

from domain.contracts.amqp_decoding import complete_decoder
from tests.support.functions_host import HostFactory, HostProcess, write_app
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess
from tests.support.servicebus.raw_messages import (
    ODD_PROPERTIES,
    TRACE_PROPERTIES,
    UNREADABLE_BODIES,
    data,
    raw_message,
    send_raw,
)
from tests.support.waiting import until

LOCK_SECONDS = 5
MAX_DELIVERIES = 3


def queue(name: str, **properties: object) -> dict[str, Any]:
    defaults = {"LockDuration": f"PT{LOCK_SECONDS}S", "MaxDeliveryCount": MAX_DELIVERIES}
    return {"Name": name, "Properties": {**defaults, **properties}}


NAMESPACE = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "test",
                "Queues": [queue("one"), queue("many", LockDuration="PT1M"), queue("plain")],
                "Topics": [{"Name": "news", "Subscriptions": [queue("readers")]}],
            }
        ]
    }
}

APP = '''
import asyncio, json, time, typing
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

def tell(**values):
    print(json.dumps({"at": time.time(), **values}, default=str), flush=True)

async def behave(text):
    """The body says what to do: fail, nap:SECONDS, fail-once."""
    what, _, argument = text.partition(":")
    if what == "nap":
        await asyncio.sleep(float(argument))
    if what == "fail":
        raise ValueError("told to fail")

running = 0

@app.service_bus_queue_trigger(arg_name="message", queue_name="%Queue%", connection="Bus")
async def one(message: func.ServiceBusMessage, context: func.Context):
    global running
    running += 1
    try:
        text = message.get_body().decode()
        tell(function="one", body=text, count=message.delivery_count, running=running,
             trace=context.trace_context.trace_parent,
             seen={name: getattr(message, name) for name in (
                 "message_id", "subject", "label", "content_type", "correlation_id", "reply_to",
                 "session_id", "sequence_number", "application_properties", "user_properties",
                 "locked_until", "time_to_live", "state", "scheduled_enqueue_time_utc",
                 "dead_letter_reason", "enqueued_time_utc", "lock_token")})
        await behave(text)
        tell(function="one", ended=text)
    finally:
        running -= 1

@app.service_bus_queue_trigger(
    arg_name="messages", queue_name="many", connection="Bus", cardinality="many")
async def many(messages: typing.List[func.ServiceBusMessage]):
    bodies = [message.get_body().decode() for message in messages]
    tell(function="many", bodies=bodies,
         subjects=[message.subject for message in messages],
         properties=[message.application_properties for message in messages],
         counts=[message.delivery_count for message in messages],
         numbers=[message.sequence_number for message in messages])
    for text in bodies:
        await behave(text)

@app.service_bus_queue_trigger(arg_name="body", queue_name="plain", connection="Bus")
def plain(body: bytes):
    tell(function="plain", body=body.hex())

@app.service_bus_topic_trigger(
    arg_name="message", topic_name="news", subscription_name="readers", connection="Bus")
def reader(message: func.ServiceBusMessage):
    tell(function="reader", body=message.get_body().decode())

@app.route("alive")
async def alive(req: func.HttpRequest) -> str:
    return "yes"
'''


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    scratch = tmp_path_factory.mktemp("broker")
    process = BrokerProcess(scratch / "broker.log", namespace_file(scratch))
    process.start()
    yield process
    process.close()


def namespace_file(directory: Path) -> Path:
    path = directory / "servicebus.json"
    path.write_text(json.dumps(NAMESPACE))
    return path


@pytest.fixture(scope="module")
def host(broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    scratch = tmp_path_factory.mktemp("host")
    process = HostProcess(write_app(scratch / "app", APP), bus_settings(broker), (), scratch)
    process.start()
    yield process
    process.kill()


def bus_settings(broker: BrokerProcess) -> dict[str, str]:
    return {"Bus": broker.connection_string, "Queue": "one"}


@pytest.fixture(scope="module")
async def bus(broker: BrokerProcess) -> AsyncIterator[ServiceBusClient]:
    complete_decoder()
    async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        yield client


async def send(bus: ServiceBusClient, entity: str, *messages: ServiceBusMessage) -> None:
    sender = bus.get_topic_sender(entity) if entity == "news" else bus.get_queue_sender(entity)
    async with sender:
        await sender.send_messages(list(messages))


def events(host: HostProcess, containing: str = "") -> list[dict[str, Any]]:
    complete = host.output.rpartition("\n")[0]
    lines = [line for line in complete.splitlines() if '"at"' in line and containing in line]
    return [json.loads(line) for line in lines]


async def wait_for_events(
    host: HostProcess, count: int, containing: str, timeout: float = 60
) -> list[dict[str, Any]]:
    await until(lambda: len(events(host, containing)) >= count, timeout)
    return events(host, containing)


async def is_empty(broker: BrokerProcess, entity: str) -> None:
    def empty() -> bool:
        depth = broker.depth(entity)
        return depth["active"] == 0 and depth["locked"] == 0

    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(empty):
        assert time.monotonic() < deadline, f"{entity} is not empty: {broker.depth(entity)}"
        await asyncio.sleep(0.02)


async def dead_letters(bus: ServiceBusClient, name: str) -> list[ServiceBusReceivedMessage]:
    async with bus.get_queue_receiver(name, sub_queue="deadletter") as receiver:
        messages = await receiver.receive_messages(10, 60)
        for message in messages:
            await receiver.complete_message(message)
        return messages


async def test_a_message_reaches_the_function_as_on_azure_and_is_completed(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    message = ServiceBusMessage(
        "hello",
        message_id="m-1",
        subject="greeting",
        content_type="text/plain",
        correlation_id="c-1",
        application_properties={"number": 1, "text": "x", "Diagnostic-Id": trace},
    )
    await send(bus, "one", message)
    (event,) = await wait_for_events(host, 1, '"body": "hello"')
    seen = event["seen"]
    assert event["count"] == 1
    assert event["trace"] == trace
    assert seen["message_id"] == "m-1"
    assert seen["subject"] == seen["label"] == "greeting"
    assert seen["content_type"] == "text/plain"
    assert seen["correlation_id"] == "c-1"
    assert seen["application_properties"] == seen["user_properties"]
    assert seen["application_properties"]["number"] == 1
    assert seen["sequence_number"] >= 1
    assert len(seen["lock_token"]) == 36
    assert "+" not in seen["enqueued_time_utc"]  # naive, as on Azure
    for never in ("reply_to", "session_id", "locked_until", "time_to_live", "state"):
        assert seen[never] is None
    await is_empty(broker, "one")


async def test_an_exception_abandons_at_once_until_the_message_is_dead_lettered(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    await send(bus, "one", ServiceBusMessage("fail:single"))
    attempts = await wait_for_events(host, MAX_DELIVERIES, '"body": "fail:single"')
    assert [event["count"] for event in attempts] == [1, 2, 3]
    assert attempts[-1]["at"] - attempts[0]["at"] < LOCK_SECONDS  # no lock had to run out
    (dead,) = await dead_letters(bus, "one")
    assert str(dead) == "fail:single"
    assert dead.dead_letter_reason == "MaxDeliveryCountExceeded"
    assert "ValueError: told to fail" in host.log


async def test_a_failing_batch_abandons_all_its_messages_and_they_come_again(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    await send(
        bus, "many", ServiceBusMessage("good"), ServiceBusMessage("fail"), ServiceBusMessage("new")
    )
    await until(lambda: broker.depth("many")["dead_lettered"] == 3)
    batches = events(host, '"function": "many"')
    delivered = [(body, count) for event in batches for body, count in _with_counts(event)]
    for body in ("good", "fail", "new"):
        assert [count for name, count in delivered if name == body] == [1, 2, 3]
    assert len(await dead_letters(bus, "many")) == 3


def _with_counts(event: dict[str, Any]) -> list[tuple[str, int]]:
    return list(zip(event["bodies"], event["counts"], strict=True))


async def test_messages_that_are_there_together_come_as_one_batch_and_are_completed(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    await send(
        bus,
        "many",
        *(ServiceBusMessage(f"b{n}", application_properties={"n": n}) for n in range(40)),
    )
    batches = await wait_for_events(host, 1, '"b0"')
    await is_empty(broker, "many")
    assert batches[0]["bodies"] == [f"b{n}" for n in range(40)]
    assert [properties["n"] for properties in batches[0]["properties"]] == list(range(40))
    assert batches[0]["numbers"] == sorted(batches[0]["numbers"])


async def test_a_batch_loses_empty_metadata_as_on_azure(
    host: HostProcess, bus: ServiceBusClient
) -> None:
    await send(
        bus,
        "many",
        ServiceBusMessage("s1"),
        ServiceBusMessage("s2", subject="second", application_properties={"of": "s2"}),
    )
    (event,) = await wait_for_events(host, 1, '"s1"')
    assert event["bodies"] == ["s1", "s2"]
    assert event["subjects"] == ["second", None]  # shifted: Azure/Azure-Functions#2084
    assert event["properties"] == [{}, {"of": "s2"}]  # not shifted


async def test_an_empty_body_fails_its_batch_as_on_azure(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    await send(bus, "many", ServiceBusMessage(""), ServiceBusMessage("beside an empty one"))
    await until(lambda: broker.depth("many")["dead_lettered"] == 2)
    assert len(await dead_letters(bus, "many")) == 2
    assert events(host, "beside an empty one") == []
    assert "IndexError" in host.log  # of the worker's converter: Azure/Azure-Functions#2084


async def test_a_binary_body_reaches_a_bytes_parameter(
    host: HostProcess, bus: ServiceBusClient
) -> None:
    await send(bus, "plain", ServiceBusMessage(b"\xff\x00"))
    await wait_for_events(host, 1, '"body": "ff00"')


async def test_a_body_that_is_no_text_is_dead_lettered_with_the_reason_in_the_log(
    host: HostProcess, bus: ServiceBusClient
) -> None:
    await send(bus, "one", ServiceBusMessage(b"\xff\x00", message_id="binary"))
    (dead,) = await dead_letters(bus, "one")
    assert dead.message_id == "binary"
    assert "the body of message binary is not UTF-8" in host.log


async def test_a_subscription_is_received_from(host: HostProcess, bus: ServiceBusClient) -> None:
    await send(bus, "news", ServiceBusMessage("headline"))
    await wait_for_events(host, 1, '"headline"')


async def test_messages_that_arrive_together_run_at_the_same_time(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    await send(bus, "one", *(ServiceBusMessage(f"nap:4.{n}") for n in range(8)))
    started = await wait_for_events(host, 8, '"body": "nap:4.')
    assert max(event["running"] for event in started) == 8
    assert started[-1]["at"] - started[0]["at"] < 4
    await is_empty(broker, "one")


async def test_a_running_functions_lock_is_renewed(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    nap = LOCK_SECONDS * 1.6
    await send(bus, "one", ServiceBusMessage(f"nap:{nap}"))
    await wait_for_events(host, 1, f'"ended": "nap:{nap}"')
    await is_empty(broker, "one")
    assert [event["count"] for event in events(host, f'"body": "nap:{nap}"')] == [1]


@asynccontextmanager
async def own_system(
    tmp_path: Path,
    broker_process: BrokerFactory,
    functions_host: HostFactory,
    **service_bus: object,
) -> AsyncIterator[tuple[BrokerProcess, HostProcess, ServiceBusClient]]:
    """A broker and a host of the test's own, with host.json's serviceBus options."""
    broker = broker_process(namespace_file(tmp_path))
    app = write_app(tmp_path / "app", APP, {"extensions": {"serviceBus": service_bus}})
    host = functions_host(app, bus_settings(broker))
    async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        yield broker, host, client


async def test_no_more_than_max_concurrent_calls_run_and_none_waits_locked(
    tmp_path: Path, broker_process: BrokerFactory, functions_host: HostFactory
) -> None:
    options = {"maxConcurrentCalls": 3}
    async with own_system(tmp_path, broker_process, functions_host, **options) as system:
        broker, host, client = system
        await send(client, "one", *(ServiceBusMessage(f"nap:1.{n}5") for n in range(1, 9)))
        await wait_for_events(host, 3, '"body": "nap')
        assert broker.depth("one")["locked"] <= 3
        await wait_for_events(host, 8, '"ended"')
        await is_empty(broker, "one")
        started = events(host, '"body": "nap')
        assert max(event["running"] for event in started) == 3
        assert {event["count"] for event in started} == {1}


async def test_a_small_batch_waits_for_the_minimum_or_for_the_time(
    tmp_path: Path, broker_process: BrokerFactory, functions_host: HostFactory
) -> None:
    options = {"minMessageBatchSize": 3, "maxBatchWaitTime": "00:00:06", "maxMessageBatchSize": 4}
    async with own_system(tmp_path, broker_process, functions_host, **options) as system:
        _, host, client = system
        async with client.get_queue_sender("many") as sender:
            for number in range(3):
                await sender.send_messages(ServiceBusMessage(f"a{number}"))
                await asyncio.sleep(0.2)
            (batch,) = await wait_for_events(host, 1, '"a0"')
            assert batch["bodies"] == ["a0", "a1", "a2"]
            sent = time.time()
            await sender.send_messages(ServiceBusMessage("lonely"))
            (batch,) = await wait_for_events(host, 1, '"lonely"')
            assert 5 < batch["at"] - sent < 30
            await sender.send_messages([ServiceBusMessage(f"six-{n}") for n in range(6)])
            batches = await wait_for_events(host, 2, '"six-')
            assert [len(batch["bodies"]) for batch in batches] == [4, 2]


async def test_the_host_survives_its_broker_and_http_goes_on(
    tmp_path: Path, broker_process: BrokerFactory, functions_host: HostFactory
) -> None:
    async with own_system(tmp_path, broker_process, functions_host) as (broker, host, client):
        await send(client, "one", ServiceBusMessage("before"), ServiceBusMessage("nap:1.5"))
        await wait_for_events(host, 1, '"body": "nap:1.5"')
        broker.kill()
        await asyncio.to_thread(host.wait_for_log, "lost one (retrying)")
        async with aiohttp.ClientSession(host.url) as http, http.get("/api/alive") as response:
            assert await response.text() == "yes"
        broker.start()
        async with ServiceBusClient.from_connection_string(broker.connection_string) as again:
            for entity in ("one", "many", "news"):
                await send(again, entity, ServiceBusMessage(f"after-{entity}"))
            for entity in ("one", "many", "news"):
                await wait_for_events(host, 1, f'"after-{entity}"')
            await is_empty(broker, "one")
        assert host.log.count("lost one (retrying)") == 1  # once per change, not per attempt
        assert "Task exception was never retrieved" not in host.log


async def test_a_host_that_starts_before_its_broker_waits_for_it(
    tmp_path: Path, broker_process: BrokerFactory, functions_host: HostFactory
) -> None:
    broker = broker_process(namespace_file(tmp_path))
    broker.kill()
    host = functions_host(write_app(tmp_path / "app", APP), bus_settings(broker))
    await asyncio.to_thread(host.wait_for_log, "lost one")
    broker.start()
    async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        await send(client, "one", ServiceBusMessage("at last"))
        await wait_for_events(host, 1, '"at last"')


async def test_a_missing_entity_is_named_once_and_the_others_work(
    tmp_path: Path, broker: BrokerProcess, functions_host: HostFactory
) -> None:
    settings = {**bus_settings(broker), "Queue": "nosuch"}
    host = functions_host(write_app(tmp_path / "app", APP), settings)
    await asyncio.to_thread(host.wait_for_log, "nosuch does not exist")
    async with aiohttp.ClientSession(host.url) as http, http.get("/api/alive") as response:
        assert response.status == 200
    await asyncio.sleep(2)
    assert host.log.count("nosuch does not exist") == 1


async def test_a_wrong_key_is_told_and_not_shown(
    tmp_path: Path, broker: BrokerProcess, functions_host: HostFactory
) -> None:
    connection = broker.connection_string.replace(broker.key, "d3Jvbmcga2V5IQ==")
    settings = {"Bus": connection, "Queue": "one"}
    host = functions_host(write_app(tmp_path / "app", APP), settings)
    await asyncio.to_thread(host.wait_for_log, "refuses the connection's key")
    assert "d3Jvbmcga2V5IQ" not in host.log


async def test_a_killed_host_loses_nothing(
    tmp_path: Path, broker_process: BrokerFactory, functions_host: HostFactory
) -> None:
    async with own_system(tmp_path, broker_process, functions_host) as (_, host, client):
        await send(client, "one", ServiceBusMessage("nap:60"))
        await wait_for_events(host, 1, '"body": "nap:60"')
        host.restart()  # kill -9: the lock runs out, or the broker sees the connection break
        (event,) = await wait_for_events(host, 1, '"body": "nap:60"')
        assert event["count"] >= 1


async def test_sigterm_finishes_and_completes_what_runs_and_gives_back_the_rest(
    tmp_path: Path, broker_process: BrokerFactory, functions_host: HostFactory
) -> None:
    options = {"maxConcurrentCalls": 2}
    async with own_system(tmp_path, broker_process, functions_host, **options) as system:
        broker, host, client = system
        await send(client, "one", *(ServiceBusMessage(f"nap:5.{n}") for n in range(4)))
        await wait_for_events(host, 2, '"body": "nap')
        assert await asyncio.to_thread(host.stop) == 0
        assert len(events(host, '"ended"')) == 2
        depth = broker.depth("one")
        assert (depth["active"], depth["locked"], depth["dead_lettered"]) == (2, 0, 0)
        await receive_counts(client, 2)


async def receive_counts(client: ServiceBusClient, expected: int) -> None:
    """What was not started comes with its first delivery."""
    async with client.get_queue_receiver("one") as receiver:
        messages = await receiver.receive_messages(expected, 60)
        assert [message.delivery_count for message in messages] == [0] * expected


async def test_after_the_grace_what_still_runs_is_abandoned_at_once(
    tmp_path: Path, broker_process: BrokerFactory, functions_host: HostFactory
) -> None:
    broker = broker_process(namespace_file(tmp_path))
    app = write_app(tmp_path / "app", APP)
    host = functions_host(app, bus_settings(broker), "--grace", "0.2")
    async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        await send(client, "one", ServiceBusMessage("nap:60"))
        await wait_for_events(host, 1, '"body": "nap:60"')
        assert await asyncio.to_thread(host.stop) == 0
        assert broker.depth("one")["active"] == 1


async def test_properties_of_every_type_neither_stall_nor_fail_a_function(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    names = list(ODD_PROPERTIES)
    async with bus.get_queue_sender("one") as sender:
        await send_raw(
            sender,
            *(
                raw_message(
                    data(f"odd {n}".encode()),
                    dict.fromkeys(("p", *TRACE_PROPERTIES), ODD_PROPERTIES[name][0]),
                )
                for n, name in enumerate(names)
            ),
        )
    found = await wait_for_events(host, len(names), '"body": "odd ')
    for event in found:
        name = names[int(event["body"].split()[1])]
        assert (name, event["seen"]["application_properties"]["p"], event["count"]) == (
            *(name, ODD_PROPERTIES[name][1], 1),
        )
    await is_empty(broker, "one")
    async with bus.get_queue_receiver("one", sub_queue="deadletter") as receiver:
        assert await receiver.peek_messages(1) == [], "all of them could be completed"


async def test_bodies_that_are_no_data_are_dead_lettered_and_nothing_else(
    host: HostProcess, bus: ServiceBusClient, broker: BrokerProcess
) -> None:
    unreadable = [raw_message(body, message_id=name) for name, body in UNREADABLE_BODIES.items()]
    good = [raw_message(data(f"good {n}".encode())) for n in range(len(unreadable))]
    async with bus.get_queue_sender("one") as sender:
        await send_raw(sender, *(m for pair in zip(unreadable, good, strict=True) for m in pair))
    found = await wait_for_events(host, len(good), '"body": "good ')
    assert {event["count"] for event in found} == {1}
    await is_empty(broker, "one")
    letters = {letter.message_id for letter in await dead_letters(bus, "one")}
    assert letters == set(UNREADABLE_BODIES)
