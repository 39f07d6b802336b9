"""What operators do, through HTTP and ``qlp``, on the whole stack."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.support.qlp import qlp
from tests.support.stack import ECHO, NOBODYS, Client, RunningStack, problem, submission

FAILING = {"language": "python", "files": {"main.py": "raise SystemExit(3)"}}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A new tenant's name and a client for each role."""

    name: str
    client: Client
    operator: Client


@pytest_asyncio.fixture(loop_scope="session")
async def tenant(stack: RunningStack) -> Tenant:
    client = await stack.new_tenant()
    return Tenant(await stack.tenant_of(client), client, await stack.operator_of(client))


async def replay(operator: Client, **body: Any) -> Any:
    return await operator.call("POST", "/operations/replay", body)


ROUTES = [
    ("GET", "/operations/streams"),
    ("GET", f"/operations/streams/{NOBODYS}"),
    ("GET", "/operations/rejected"),
    ("GET", "/operations/dead-letters"),
    ("POST", "/operations/replay"),
    ("GET", "/operations/doctor"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_only_operators_come_in(
    stack: RunningStack, tenant: Tenant, method: str, path: str
) -> None:
    body = {"where": "status=failed"} if method == "POST" else None
    refused = await tenant.client.call(method, path, body)
    problem(refused, 403, "forbidden")
    assert (await stack.client_with(None).call(method, path, body)).status == 401


async def test_a_stream_is_shown_as_clients_saw_it_at_each_version(tenant: Tenant) -> None:
    intent = await tenant.client.run({"text": "look", "program": ECHO})
    path = f"/operations/streams/{intent['id']}"
    now = (await tenant.operator.get(path)).body
    assert now["state"] == {name: value for name, value in intent.items() if name != "links"}
    assert [step["status"] for step in now["history"]] == [
        *("submitted", "planned", "running", "running", "succeeded")
    ]
    then = (await tenant.operator.get(f"{path}?as_of=2")).body
    assert (then["state"]["status"], len(then["events"])) == ("planned", 2)
    requested = (await tenant.operator.get(f"{path}?as_of=3")).body
    moment = quote(now["events"][0]["recorded_at"])  # of all that followed at once
    by_time = (await tenant.operator.get(f"{path}?as_of={moment}")).body
    assert by_time["state"] == requested["state"]


async def test_a_stream_of_another_tenant_does_not_exist(
    client: Client, tenant: Tenant, stack: RunningStack
) -> None:
    mine = await tenant.client.run({"program": ECHO})
    foreign = await client.run({"program": ECHO})
    for query in ("", "?as_of=1", "?as_of=99", "?as_of=2020-01-01T00:00:00Z"):
        reply = await tenant.operator.get(f"/operations/streams/{foreign['id']}{query}")
        assert (reply.status, "There is no stream" in reply.body["detail"]) == (404, True)
    listed = (await tenant.operator.get("/operations/streams?limit=200")).body["items"]
    assert [item["stream_id"] for item in listed] == [f"intent-{mine['id']}"]
    preview = (await replay(tenant.operator, ids=[foreign["id"], mine["id"]])).body["preview"]
    assert (preview["selected"], preview["unknown"]) == (1, [foreign["id"]])
    named = await replay(tenant.operator, where="tenant=somebody-else")
    problem(named, 403, "forbidden")
    assert (await stack.client.get("/operations/streams")).status == 200


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("?as_of=noon", "as_of: 'noon' is not a time"),
        ("?as_of=6", "as_of: the stream's latest version is 5, not 6"),
        (f"?as_of={'9' * 201}", "as_of: at most 200"),
    ],
)
async def test_a_wrong_moment_is_named(tenant: Tenant, path: str, says: str) -> None:
    intent = await tenant.client.run({"program": ECHO})
    reply = await tenant.operator.get(f"/operations/streams/{intent['id']}{path}")
    assert (reply.status, says in reply.body["detail"]) == (400, True)


async def test_a_replay_looks_first_and_executes_what_was_seen(tenant: Tenant) -> None:
    for _ in range(2):
        await tenant.client.run({"program": FAILING})
    where = "status=failed,code=program_exited"
    seen = (await replay(tenant.operator, where=where, to="publish")).body
    assert (seen["executed"], seen["result"], seen["preview"]["selected"]) == (False, None, 2)
    changed = await replay(tenant.operator, where=where, to="publish", execute=True, expected=1)
    problem(changed, 409, "selection-changed")
    for _ in range(2):  # again, because it is harmless
        done = await replay(tenant.operator, where=where, to="publish", execute=True, expected=2)
        assert (done.status, done.body["result"]["done"]) == (200, 2)
    compared = await replay(tenant.operator, where=f"tenant={tenant.name}", execute=True)
    assert compared.body["result"]["differences"] == {}
    versions = [
        stream["version"]
        for stream in (await tenant.operator.get("/operations/streams")).body["items"]
    ]
    assert versions == [5, 5], "nothing is written, nothing is run again"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "and not both"),
        ({"where": "colour=red"}, "only status, tenant"),
        ({"where": "status=failed", "to": "moon"}, "/to"),
        ({"where": "status=failed", "limit": 0}, "/limit"),
        ({"where": "status=failed", "colour": 1}, "/colour"),
        ({"ids": ["x"]}, "/ids/0"),
        ({"where": "status=failed", "execute": "yes"}, "/execute"),
        ({"where": "status=failed", "execute": 1}, "/execute"),
        ({"where": "status=failed", "limit": "5"}, "/limit"),
        ({"where": "status=failed", "expected": True}, "/expected"),
        ({"ids": [0] * 1900}, "/ids/0"),
        ({"ids": [0] * 5000}, "more than 2000 values"),
    ],
)
async def test_a_wrong_replay_is_named(tenant: Tenant, body: Any, says: str) -> None:
    reply = await replay(tenant.operator, **body)
    assert (reply.status, says in reply.body["detail"]) == (400, True)


async def test_rejected_messages_are_shown_to_their_tenant_only(
    stack: RunningStack, tenant: Tenant
) -> None:
    marker = uuid4().hex
    await stack.publish(
        "intents",
        *[json.dumps(submission(name, {"broken": marker})) for name in ("demo", tenant.name)],
    )
    async with asyncio.timeout(60):
        while len(await stack.rejections(marker)) < 2:
            await asyncio.sleep(0.05)
    items = (await tenant.operator.get("/operations/rejected")).body["items"]
    assert [marker in item["body"] for item in items] == [True]
    assert items[0]["reason"] == "InvalidIntent"


async def test_dead_letters_are_counted_and_the_doctor_is_content(
    stack: RunningStack, tenant: Tenant
) -> None:
    counts = (await tenant.operator.get("/operations/dead-letters")).body["items"]
    assert [item["entity"] for item in counts] == [
        *("intents", "sandbox-jobs", "sandbox-results", "intent-events/process-manager")
    ]
    assert all(item["dead_letters"] >= 0 for item in counts)
    body = (await tenant.operator.get("/operations/doctor")).body
    assert [each for each in body["findings"] if each["status"] == "fail"] == []
    said = await qlp("doctor", url=stack.endpoints.database_url, **bus(stack))
    assert (said.code, "sandbox" in said.out) == (0, True), said.out


async def test_an_intent_that_has_ended_is_not_run_again(
    stack: RunningStack, tenant: Tenant
) -> None:
    intent = await tenant.client.run({"program": ECHO})
    said = await qlp(
        *("replay", intent["id"], "--to", "sandbox", "--yes", "--json"),
        url=stack.endpoints.database_url,
        **bus(stack),
    )
    assert said.code == 0
    assert intent["id"] in said.json["result"]["skipped"], "it has ended: nothing to send"


def bus(stack: RunningStack) -> dict[str, str]:
    return {
        "ServiceBusConnection": stack.endpoints.service_bus,
        "QLP_SANDBOX_URL": stack.endpoints.sandbox_url,
    }
