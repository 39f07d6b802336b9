"""Dead letters are looked at without harm, sent again without loss, and removed on purpose."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.amqp import AmqpAnnotatedMessage
from azure.servicebus.exceptions import ServiceBusConnectionError

from domain.contracts.amqp_decoding import complete_decoder
from domain.errors import OperationError
from domain.messaging import amqp_copy
from domain.messaging import dead_letters as module
from domain.messaging.amqp_copy import decoded
from domain.messaging.bus import Entity, bus_client, entities_of, entity_named
from domain.messaging.dead_letters import DeadLetters, count_dead_letters, open_dead_letters
from domain.settings import Settings
from tests.support.qlp import qlp
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess
from tests.support.servicebus.raw_messages import ODD_PROPERTIES, data, raw_message, send_raw

INTENTS = Entity("intents")
PROCESS_MANAGER = Entity("intent-events/process-manager")


def settings_for(broker: BrokerProcess) -> Settings:
    return Settings.from_environment(
        {
            "DATABASE_URL": "postgresql://nowhere/none",
            "ServiceBusConnection": broker.connection_string,
        }
    )


class Bus:
    """Opened senders and receivers of one namespace: to open or close one takes 0.5 s."""

    def __init__(self, client: ServiceBusClient) -> None:
        self.client = client
        self._stacks: list[AsyncExitStack] = []
        self._opened: dict[tuple[str, str], Any] = {}

    async def opened(self, kind: str, entity: Entity) -> Any:
        if (kind, entity.name) not in self._opened:
            makers: dict[str, Callable[[], Any]] = {
                "sender": lambda: self.client.get_queue_sender(entity.target),
                "receiver": lambda: entity.receiver(self.client, dead_letters=False),
                "dead letters": lambda: open_dead_letters(self.client, entity),
            }
            stack = AsyncExitStack()
            self._opened[kind, entity.name] = await stack.enter_async_context(makers[kind]())
            self._stacks.append(stack)
        return self._opened[kind, entity.name]

    async def close(self) -> None:
        await asyncio.gather(*(stack.aclose() for stack in self._stacks))

    async def letters(self, entity: Entity = INTENTS) -> DeadLetters:
        opened: DeadLetters = await self.opened("dead letters", entity)
        return opened

    async def publish(
        self, entity: Entity, *messages: ServiceBusMessage | AmqpAnnotatedMessage
    ) -> None:
        sender = await self.opened("sender", entity)
        for message in messages:
            await sender.send_messages(message)

    async def next(self, entity: Entity = INTENTS) -> tuple[Any, Any]:
        receiver = await self.opened("receiver", entity)
        [message] = await receiver.receive_messages(max_wait_time=30)
        return receiver, message

    async def consume(self, entity: Entity = INTENTS) -> Any:
        receiver, message = await self.next(entity)
        await receiver.complete_message(message)
        return message

    async def give_up(self, entity: Entity) -> None:
        """Abandon the only message until the bus gives it up."""
        for _ in range(10):
            receiver, message = await self.next(entity)
            await receiver.abandon_message(message)

    async def refuse(self, count: int = 1) -> None:
        for _ in range(count):
            receiver, message = await self.next()
            await receiver.dead_letter_message(message, reason="Refused", error_description="why")

    async def refused(self, count: int) -> list[str]:
        ids = [f"{number}-{uuid4()}" for number in range(count)]
        await self.publish(INTENTS, *[ServiceBusMessage(each, message_id=each) for each in ids])
        await self.refuse(count)
        return ids


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def namespace(servicebus: BrokerProcess) -> AsyncIterator[Bus]:
    async with ServiceBusClient.from_connection_string(servicebus.connection_string) as client:
        made = Bus(client)
        yield made
        await made.close()


@pytest.fixture
def bus(namespace: Bus, servicebus: BrokerProcess) -> Iterator[Bus]:
    servicebus.reset()
    yield namespace
    servicebus.reset()


async def test_counting_holds_no_more_than_a_page(bus: Bus) -> None:
    size, number = 200_000, 30
    await bus.publish(INTENTS, *[ServiceBusMessage(bytes(size)) for _ in range(number)])
    await bus.refuse(number)
    tracemalloc.start()
    try:
        assert await count_dead_letters(bus.client, INTENTS) == number
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size * number / 2


@pytest.mark.parametrize("entity", [INTENTS, PROCESS_MANAGER], ids=lambda entity: entity.name)
async def test_a_message_nobody_could_take_is_seen_sent_again_and_consumed(
    bus: Bus, entity: Entity
) -> None:
    message = ServiceBusMessage(
        b"\x00\xff body",
        message_id="the-id",
        subject="qlp.test",
        correlation_id="cause",
        content_type="application/octet-stream",
        application_properties={"colour": "red", "size": 7},
    )
    await bus.publish(entity, message)
    await bus.give_up(entity)
    letters = await bus.letters(entity)
    [letter] = await letters.peek()
    assert letter.reason == "MaxDeliveryCountExceeded"
    assert (letter.message_id, letter.subject, letter.body) == (
        *("the-id", "qlp.test", b"\x00\xff body"),
    )
    assert (letter.delivery_count, letter.resubmitted) == (10, 0)
    assert letter.properties == {"colour": "red", "size": 7}
    assert await letters.peek() == [letter], "looking changes nothing"

    settled = await letters.resubmit([letter])
    assert (settled.done, settled.duplicated, settled.missing) == (["the-id"], {}, [])
    assert await letters.peek() == []
    again = await bus.consume(entity)
    assert (again.message_id, again.subject, b"".join(again.body)) == (
        *("the-id", "qlp.test", b"\x00\xff body"),
    )
    assert (again.correlation_id, again.content_type) == ("cause", "application/octet-stream")
    assert again.application_properties == {b"colour": b"red", b"size": 7, b"qlp-resubmitted": 1}


async def test_every_resubmission_is_counted(bus: Bus) -> None:
    letters = await bus.letters()
    await bus.refused(1)
    for count in (0, 1, 2):
        [letter] = await letters.peek()
        assert letter.resubmitted == count
        await letters.resubmit([letter])
        await bus.refuse()


async def test_what_no_function_can_read_is_named_and_stays_while_the_others_go(bus: Bus) -> None:
    value = AmqpAnnotatedMessage(value_body={"a": 1}, properties={"message_id": "value"})
    sequence = AmqpAnnotatedMessage(sequence_body=[[1, "two"]], properties={"message_id": "seq"})
    good = ServiceBusMessage("good", message_id="good")
    await bus.publish(INTENTS, value, good, sequence)
    await bus.refuse(3)
    letters = await bus.letters()
    found = await letters.peek()
    by_id = {letter.message_id: letter for letter in found}
    assert b"two" in by_id["seq"].body
    assert "AMQP value" in str(by_id["value"].unreadable)
    assert str(by_id["seq"].description).endswith("; why")
    settled = await letters.resubmit(found)
    assert settled.done == ["good"]
    assert set(settled.refused) == {"value", "seq"}
    assert "AMQP sequence; it must be sent as AMQP data" in settled.refused["seq"]
    assert (await bus.consume()).message_id == "good"
    left = await letters.peek()
    assert {letter.message_id for letter in left} == {"value", "seq"}
    assert set((await letters.purge(left)).done) == {"value", "seq"}


async def test_properties_of_every_type_are_listed_and_sent_again(bus: Bus) -> None:
    complete_decoder()
    names = list(ODD_PROPERTIES)
    sender = await bus.opened("sender", INTENTS)
    await send_raw(
        sender,
        *(raw_message(data(b"x"), {"p": ODD_PROPERTIES[name][0]}, name) for name in names),
    )
    await bus.refuse(len(names))
    letters = await bus.letters()
    found = await letters.peek()
    before = {letter.message_id: letter.properties.get("p") for letter in found}
    settled = await letters.resubmit(found)
    assert (settled.refused, len(settled.done)) == ({}, len(names))
    received = {}
    for _ in names:
        message = await bus.consume()
        received[message.message_id] = decoded(message.application_properties)["p"]
    for name in names:
        assert str(received[name]) == str(before[name]), name


async def test_a_dead_letter_that_the_bus_refuses_is_named_and_stays(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await bus.refused(3)
    letters = await bus.letters()
    found = await letters.peek()

    def copy_of(message: Any, added: Any) -> Any:
        copy = amqp_copy.copy_of(message, added)
        if message.message_id == ids[1]:
            copy.application_properties = {"large": "x" * 70_000}
        return copy

    monkeypatch.setattr(module, "copy_of", copy_of)
    settled = await letters.resubmit(found)
    assert settled.done == [ids[0], ids[2]], settled
    assert "the limit is" in settled.refused[ids[1]]
    assert [letter.message_id for letter in await letters.peek()] == [ids[1]]


async def test_only_what_was_chosen_is_touched(bus: Bus) -> None:
    ids = await bus.refused(30)
    letters = await bus.letters()
    chosen = await letters.peek([ids[27], ids[3]])
    assert (await letters.purge(chosen)).done == [ids[3], ids[27]]
    rest = [letter.message_id for letter in await letters.peek()]
    assert rest == [each for each in ids if each not in (ids[3], ids[27])]
    assert await count_dead_letters(bus.client, INTENTS) == 28
    taken = await letters.purge(await letters.peek())
    assert len(taken.done) == 28, "what was not meant is given back at once"


async def test_dead_letters_that_came_later_are_left_alone(bus: Bus) -> None:
    letters = await bus.letters()
    await bus.refused(2)
    seen = await letters.peek()
    [later] = await bus.refused(1)
    await letters.purge(seen)
    assert [letter.message_id for letter in await letters.peek()] == [later]


async def test_what_somebody_else_took_is_reported(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECEIVE_SECONDS", 3.0)
    ids = await bus.refused(2)
    letters = await bus.letters()
    seen = await letters.peek()
    await letters.purge(seen[:1])
    settled = await letters.resubmit(seen)
    assert (settled.done, settled.missing) == ([ids[1]], [ids[0]])


async def test_a_crash_between_sending_and_removing_leaves_both(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = await bus.refused(1)
    letters = await bus.letters()
    seen = await letters.peek()

    async def lost(*_: object) -> None:
        raise ServiceBusConnectionError(message="gone")

    monkeypatch.setattr("azure.servicebus.aio.ServiceBusReceiver.complete_message", lost)
    settled = await letters.resubmit(seen)
    monkeypatch.undo()
    assert set(settled.duplicated) == {name}
    assert settled.done == []
    assert (await bus.consume()).message_id == name
    assert [letter.message_id for letter in await letters.peek()] == [name]


async def test_more_than_a_page_is_listed_in_order(bus: Bus) -> None:
    ids = await bus.refused(120)
    letters = await bus.letters()
    assert [letter.message_id for letter in await letters.peek()] == ids
    assert [letter.message_id for letter in await letters.peek(limit=3)] == ids[:3]


async def test_an_entity_that_is_not_there_is_named(servicebus: BrokerProcess) -> None:
    settings = settings_for(servicebus)
    assert [entity.name for entity in entities_of(settings)] == [
        *("intents", "sandbox-jobs", "sandbox-results", "intent-events/process-manager")
    ]
    with pytest.raises(OperationError, match="there is no 'nope', only intents, sandbox-jobs"):
        entity_named(settings, "nope")
    with pytest.raises(OperationError, match="nope: .*NotFound"):  # noqa: RUF043 a pattern
        async with bus_client(settings) as client:
            await count_dead_letters(client, Entity("nope"))


async def test_a_bus_that_is_away_is_one_line(broker_process: BrokerFactory) -> None:
    broker = broker_process()
    broker.kill()
    with pytest.raises(OperationError, match="intents: ServiceBus"):
        async with bus_client(settings_for(broker)) as client:
            await count_dead_letters(client, INTENTS)


async def test_qlp_says_what_helps_against_a_wrong_key(servicebus: BrokerProcess) -> None:
    wrong = servicebus.connection_string.replace(servicebus.key, "0" * 64)
    for arguments in (("list",), ("show", "intents", "one"), ("purge", "intents", "--yes")):
        said = await qlp(
            *("dead-letters", *arguments),
            url="postgresql://nowhere/none",
            ServiceBusConnection=wrong,
        )
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert "ServiceBusAuthenticationError" in said.err
        assert said.err.endswith("Azure Service Bus Data Owner, or correct the key\n")


async def test_qlp_lists_shows_resubmits_and_purges(bus: Bus, servicebus: BrokerProcess) -> None:
    env = {"ServiceBusConnection": servicebus.connection_string}
    body = ServiceBusMessage("\x1b]0;mine\x07 words", message_id="one", subject="s\x1b[2J")
    await bus.publish(INTENTS, body, ServiceBusMessage("two", message_id="two"))
    await bus.refuse(2)

    async def dead(*arguments: str) -> Any:
        return await qlp("dead-letters", *arguments, url="postgresql://nowhere/none", **env)

    listed, none, shown, dry, unasked, unknown = await asyncio.gather(
        dead("list"),
        dead("list", "sandbox-jobs"),
        dead("show", "intents", "one"),
        dead("purge", "intents", "--dry-run", "--json"),
        dead("purge", "intents"),
        dead("purge", "intents", "--message-id", "three", "--yes"),
    )
    assert "Refused" in listed.out
    assert none.out == "no dead letters in sandbox-jobs\n"
    assert "words" in shown.out
    assert "\x1b" not in listed.out + shown.out, "people's words must not steer the terminal"
    assert [item["message_id"] for item in dry.json["preview"]] == ["one", "two"]
    assert (unasked.code, "--yes" in unasked.err) == (1, True)
    assert (unknown.code, "no dead letter three" in unknown.err) == (1, True)
    again = await dead("resubmit", "intents", "--message-id", "one", "--yes")
    assert (again.code, "sent again: 1" in again.out) == (0, True)
    assert (await bus.consume()).message_id == "one"
    purged = await dead("purge", "intents", "--yes", "--json")
    assert (purged.code, purged.json["result"]["done"]) == (0, ["two"])
