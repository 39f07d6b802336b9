"""The Service Bus queues, as producers use them, with the plain SDK against the whole stack."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from domain.messaging.amqp_copy import decoded
from tests.support.servicebus.raw_messages import (
    ODD_PROPERTIES,
    UNREADABLE_BODIES,
    data,
    raw_message,
    send_raw,
)
from tests.support.stack import ECHO, Client, RunningStack, intent_of, submission


async def arrived(client: Client, event: dict[str, Any]) -> Any:
    """The finished intent of a producer's event."""
    path = f"/intents/{intent_of(event)}"
    async with asyncio.timeout(60):
        while (reply := await client.get(path, Prefer="wait=20")).status == 404:
            await asyncio.sleep(0.05)
    return reply.body


async def dead_letters_of(stack: RunningStack, entity: str, marker: str) -> list[str]:
    """Ids of the dead letters of a queue that have ``marker`` in theirs."""
    async with (
        ServiceBusClient.from_connection_string(stack.endpoints.service_bus) as client,
        client.get_queue_receiver(entity, sub_queue="deadletter") as receiver,
    ):
        found = [message.message_id or "" for message in await receiver.peek_messages(200)]
    return [name for name in found if marker in name]


async def purge_dead_letters(stack: RunningStack, entity: str) -> None:
    """Remove them, as others ask for a stack that is well."""
    async with (
        ServiceBusClient.from_connection_string(stack.endpoints.service_bus) as client,
        client.get_queue_receiver(entity, sub_queue="deadletter") as receiver,
    ):
        while messages := await receiver.receive_messages(100, max_wait_time=1):
            for message in messages:
                await receiver.complete_message(message)


async def test_a_producers_program_runs(stack: RunningStack, client: Client) -> None:
    tenant = await stack.tenant_of(client)
    event = submission(tenant, {"text": "echo", "program": {**ECHO, "stdin": "from the bus"}})
    await stack.publish("intents", json.dumps(event))
    intent = await arrived(client, event)
    assert (intent["status"], intent["outcome"]["stdout"]) == ("succeeded", "from the bus")


@pytest.mark.parametrize("form", ["00-{}-b7ad6b7169203331-01", "cc-{}-b7ad6b7169203331-01-later"])
async def test_the_trace_of_a_producer_is_carried_on(
    stack: RunningStack, client: Client, form: str
) -> None:
    trace = "1af7651916cd43dd8448eb211c80319c"
    tenant = await stack.tenant_of(client)
    event = submission(tenant, {"program": ECHO}, traceparent=form.format(trace))
    await stack.publish("intents", json.dumps(event))
    intent = await arrived(client, event)
    events = await client.events(intent["id"])
    assert {item["traceparent"].split("-")[1] for item in events} == {trace}


async def test_the_same_event_twice_is_one_intent(stack: RunningStack, client: Client) -> None:
    tenant = await stack.tenant_of(client)
    event = submission(tenant, {"program": ECHO})
    await stack.publish("intents", *[json.dumps(event)] * 5)
    await arrived(client, event)
    after = submission(tenant, {"text": "sent after the repeats"})
    await stack.publish("intents", json.dumps(after))
    await arrived(client, after)
    assert len((await client.get("/intents")).body["items"]) == 2


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"tenantid": "nobody-we-know"}, "UnknownTenant", "tenantid"),
        ({"tenantid": "NOT A TENANT"}, "InvalidEnvelope", "tenantid"),
        ({"type": "something.else"}, "UnknownType", "type"),
        ({"data": {"text": ""}}, "InvalidIntent", "data"),
        ({"data": {"program": {"language": "?"}}}, "InvalidIntent", "data.program.language"),
        ({"specversion": "9"}, "InvalidEnvelope", "specversion"),
        (
            {"data": {"program": {**ECHO, "limits": {"memory_bytes": "2_68435456"}}}},
            "InvalidIntent",
            "data.program.limits.memory_bytes",
        ),
        ({"data": {"program": {**ECHO, "args": [1] * 3000}}}, "InvalidIntent", "more than 2000"),
    ],
)
async def test_a_broken_message_is_set_aside_with_the_reason_and_harms_no_other(
    stack: RunningStack, client: Client, change: dict[str, Any], reason: str, says: str
) -> None:
    tenant = await stack.tenant_of(client)
    good = [submission(tenant, {"program": ECHO}) for _ in range(2)]
    marker = uuid4().hex
    broken = {**submission(tenant, {"text": "x"}), "id": marker, **change}
    await stack.publish("intents", *(json.dumps(event) for event in (good[0], broken, good[1])))
    for event in good:
        assert (await arrived(client, event))["status"] == "succeeded"
    [rejected] = await stack.rejections(marker)
    assert (rejected.reason, rejected.source) == (reason, "intents")
    assert says in rejected.description


async def test_whatever_cloudevents_allows_is_taken(stack: RunningStack, client: Client) -> None:
    tenant = await stack.tenant_of(client)
    data = {"text": "echo", "program": ECHO}
    source = "/subscriptions/0f/resourceGroups/" + "r" * 900
    events = [
        submission(tenant, data, datacontenttype='Application/JSON; charset="UTF-8"'),
        submission(tenant, data, datacontenttype="application/vnd.example+json"),
        submission(tenant, data, traceparent="not a trace", subject=None, time=None),
        submission(tenant, data, source=source, comexampleothervalue=5, dataschema="urn:x:y"),
        submission(tenant, data, source=f"{source}\nb", id="c"),
        submission(tenant, data, source=source, id="b\nc"),
    ]
    encoded = submission(tenant, None, data_base64=b64encode(json.dumps(data).encode()).decode())
    del encoded["data"]
    events.append(encoded)
    await stack.publish("intents", *map(json.dumps, events))
    intents = [await arrived(client, event) for event in events]
    assert [intent["status"] for intent in intents] == ["succeeded"] * len(events)
    assert len({intent["id"] for intent in intents}) == len(events)


async def test_what_is_refused_says_why_in_the_producers_words_and_whose_it_is(
    stack: RunningStack, client: Client
) -> None:
    tenant = await stack.tenant_of(client)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"specversion": None}, "specversion: is missing"),
        ({"time": 1522949460}, "time: must be a time"),
        ({"data_base64": "e30="}, "data_base64: excludes data"),
        ({"comExample": 1}, "'comExample': is not a valid attribute name"),
        ({"datacontenttype": "text/xml"}, "datacontenttype: must be application/json"),
        ({"data": {"text": " "}}, "data.text: must not be blank"),
        ({"data": {}}, "data: give a text, a program, or both"),
        ({"data": [1]}, "data: must be a JSON object"),
        ({"data": {"text": "x", "metadata": {"a b": "c"}}}, "data.metadata.a b: must be named"),
        ({"data": {"program": {**ECHO, "language": "?"}}}, "data.program.language: must be"),
        ({"data": {"program": {**ECHO, "files": "x"}}}, "data.program.files: must be a list"),
    ]
    events = [submission(tenant, {"text": "x"}) | change for change, _ in wrong]
    await stack.publish("intents", *map(json.dumps, events))
    for event, (_, says) in zip(events, wrong, strict=True):
        [rejected] = await stack.rejections(event["id"])
        assert rejected.description.startswith(says)
        assert (rejected.tenant_id, rejected.message_id) == (tenant, event["id"])


async def test_batches_and_binary_mode_are_refused_by_their_names(
    stack: RunningStack, client: Client
) -> None:
    tenant = await stack.tenant_of(client)
    in_batch, in_binary = uuid4().hex, uuid4().hex
    batch = json.dumps([submission(tenant, {"text": "x"}, id=in_batch)])
    event = submission(tenant, {"text": in_binary})
    data = event.pop("data")
    binary = ServiceBusMessage(
        json.dumps(data),
        content_type="application/json",
        application_properties={f"cloudEvents:{name}": value for name, value in event.items()},
    )
    await stack.publish("intents", ServiceBusMessage(batch), binary)
    [rejected] = await stack.rejections(in_batch)
    assert "application/cloudevents-batch+json" in rejected.description
    [rejected] = await stack.rejections(in_binary)
    assert "binary mode" in rejected.description


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\xfd", b"[]", b"{", b'{"id": "\\ud800"}'])
async def test_no_bytes_stop_the_queue(stack: RunningStack, client: Client, body: bytes) -> None:
    tenant = await stack.tenant_of(client)
    event = submission(tenant, {"program": ECHO})
    await stack.publish("intents", body, json.dumps(event), body)
    assert (await arrived(client, event))["status"] == "succeeded"


async def test_messages_that_no_function_can_read_are_recorded_and_harm_no_other(
    stack: RunningStack, client: Client
) -> None:
    tenant, marker = await stack.tenant_of(client), uuid4().hex
    unreadable = [
        raw_message(body, message_id=f"{name} {marker}") for name, body in UNREADABLE_BODIES.items()
    ]
    good = {name: submission(tenant, {"text": name}) for name in ODD_PROPERTIES}
    odd = [
        raw_message(data(json.dumps(event).encode()), {"p": ODD_PROPERTIES[name][0]})
        for name, event in good.items()
    ]
    async with (
        ServiceBusClient.from_connection_string(stack.endpoints.service_bus) as bus,
        bus.get_queue_sender("intents") as sender,
    ):
        await send_raw(sender, *unreadable[:2], *odd, *unreadable[2:])
    for event in good.values():
        await arrived(client, event)
    found = await stack.rejections(marker, len(unreadable))
    assert {item.message_id for item in found} == {f"{name} {marker}" for name in UNREADABLE_BODIES}
    assert {(item.reason, item.source) for item in found} == {("UnsupportedBody", "intents")}
    assert "bytes" in found[0].description
    async with asyncio.timeout(60):
        while await dead_letters_of(stack, "intents", marker):
            await asyncio.sleep(0.2)


async def test_a_message_that_fails_unexpectedly_is_tried_again_later(
    stack: RunningStack, client: Client
) -> None:
    tenant = await stack.tenant_of(client)
    event = submission(tenant, {"text": "not yet"})
    check = (
        f"alter table intent_states add constraint no_{uuid4().hex} check (tenant_id <> '{tenant}')"
    )
    name = check.split()[5]
    async with (
        await psycopg.AsyncConnection.connect(
            stack.endpoints.database_admin_url, autocommit=True
        ) as admin,
        ServiceBusClient.from_connection_string(stack.endpoints.service_bus) as bus,
        bus.get_queue_receiver("intents") as receiver,
    ):
        await admin.execute(check.encode())
        try:
            await stack.publish("intents", json.dumps(event))
            properties: dict[str, Any] = {}
            async with asyncio.timeout(60):
                while "qlp-attempt" not in properties:
                    await asyncio.sleep(0.05)
                    for message in await receiver.peek_messages(1, sequence_number=1):
                        properties = decoded(message.application_properties or {})
        finally:
            await admin.execute(f"alter table intent_states drop constraint {name}".encode())
    assert properties["qlp-attempt"] in (2, 3, 4)
    assert "CheckViolation" in properties["qlp-failure"]
    assert (await arrived(client, event))["text"] == "not yet"


@pytest.mark.parametrize("queue", ["sandbox-results", "sandbox-jobs", "intent-events"])
async def test_garbage_on_internal_queues_harms_nothing(
    stack: RunningStack, client: Client, queue: str
) -> None:
    await stack.publish(queue, b"garbage", json.dumps(submission("nobody", {"x": 1})))
    intent = await client.run({"program": ECHO})
    assert intent["status"] == "succeeded"
    if queue == "sandbox-jobs":
        await purge_dead_letters(stack, queue)


async def test_a_forged_result_for_another_tenants_intent_is_refused(
    stack: RunningStack, client: Client
) -> None:
    intent = (
        await client.submit({"program": {"language": "shell", "files": {"a": "sleep 2; echo me"}}})
    ).body
    await client.until_running(intent["id"])
    events = await client.events(intent["id"])
    run_id = next(e["data"]["run_id"] for e in events if e["type"] == "SandboxRunRequested")
    forged = submission(
        "nobody",
        {"run_id": run_id, "intent_id": intent["id"], "verdict": "succeeded", "stdout": "forged"},
        type="qlp.sandbox.result",
    )
    await stack.publish("sandbox-results", json.dumps(forged))
    finished = await client.finished(intent["id"])
    assert finished["outcome"]["stdout"] == "me\n"
    [rejected] = await stack.rejections(run_id)
    assert rejected.reason == "UnknownIntent"
