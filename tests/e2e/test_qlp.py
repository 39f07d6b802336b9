"""``qlp`` as an operator and a script run it, against the whole stack."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import psycopg

from tests.support.qlp import qlp
from tests.support.stack import ECHO, Client, RunningStack


async def test_streams_are_listed_by_tenant_and_page(stack: RunningStack, client: Client) -> None:
    tenant = await stack.tenant_of(client)
    ids = {f"intent-{(await client.run({'program': ECHO}))['id']}" for _ in range(3)}
    first = (await stack.qlp("streams", "list", "--tenant", tenant, "--limit", "2", "--json")).json
    rest = await stack.qlp(
        *("streams", "list", "--tenant", tenant, "--after", first["next"], "--json")
    )
    items = first["items"] + rest.json["items"]
    assert {item["stream_id"] for item in items} == ids
    assert {item["version"] for item in items} == {5}
    table = await stack.qlp("streams", "list", "--tenant", tenant)
    assert all(stream_id in table.out for stream_id in ids)


async def test_a_stream_is_shown_with_its_events(stack: RunningStack, client: Client) -> None:
    intent = await client.run({"program": {**ECHO, "stdin": "look here"}})
    shown = (await stack.qlp("streams", "show", intent["id"], "--json")).json["items"]
    assert [event["version"] for event in shown] == [1, 2, 3, 4, 5]
    assert "look here" in json.dumps(shown[0]["data"])
    assert "look here" in (await stack.qlp("streams", "show", f"intent-{intent['id']}")).out


async def test_a_replay_agrees_with_an_untouched_read_model(
    stack: RunningStack, client: Client
) -> None:
    intent = await client.run({"program": ECHO})
    said = await stack.qlp("streams", "replay", intent["id"], "--json")
    assert said.code == 0
    assert said.json["matches"] is True
    statuses = [step["status"] for step in said.json["steps"]]
    assert statuses == ["submitted", "planned", "running", "running", "succeeded"]


async def test_a_replay_finds_a_read_model_that_was_tampered_with(
    stack: RunningStack, client: Client
) -> None:
    intent = await client.run({"program": ECHO})
    with psycopg.connect(stack.endpoints.database_url) as connection:
        connection.execute(
            "update intent_states set status = 'failed' where id = %s", [intent["id"]]
        )
    said = await stack.qlp("streams", "replay", intent["id"], "--json")
    assert said.code == 1
    assert said.json["differences"] == {"status": ["succeeded", "failed"]}
    assert "status" in (await stack.qlp("streams", "replay", intent["id"])).out


async def test_a_key_is_accepted_until_it_is_revoked(stack: RunningStack) -> None:
    tenant = f"tenant-{uuid4().hex[:8]}"
    key = (await stack.qlp("keys", "create", "--tenant", tenant, "--label", "ci")).out.strip()
    listed = (await stack.qlp("keys", "list", "--json")).json["items"]
    [entry] = [item for item in listed if item["tenant_id"] == tenant]
    assert (entry["role"], entry["label"], entry["revoked_at"]) == ("client", "ci", None)
    assert key.rpartition("_")[2] not in json.dumps(listed)

    dry = await stack.qlp("keys", "revoke", entry["id"], "--dry-run")
    assert "would revoke" in dry.out
    assert (await stack.client_with(key).get("/intents")).status == 200

    other = (await stack.qlp("keys", "create", "--tenant", tenant, "--json")).json["key"]
    assert (await stack.qlp("keys", "revoke", other.split("_")[1])).code == 0
    assert (await stack.client_with(other).get("/intents")).status == 401


async def test_a_rejected_message_can_be_looked_at(stack: RunningStack) -> None:
    marker = uuid4().hex
    body = json.dumps({"broken": marker, "bell": "\x1b]0;mine\x07"}, ensure_ascii=False)
    await stack.publish("intents", body)
    [rejected] = await stack.rejections(marker)
    listed = (await stack.qlp("rejected", "list", "--json", "--limit", "200")).json["items"]
    assert str(rejected.id) in [item["id"] for item in listed]
    shown = (await stack.qlp("rejected", "show", str(rejected.id))).out
    assert marker in shown
    assert "\x1b" not in shown, "people's words must not steer the terminal"


async def test_read_models_that_follow_the_log_keep_up_by_themselves_and_can_be_rebuilt(
    stack: RunningStack, client: Client
) -> None:
    tenant = await stack.tenant_of(client)
    await client.run({"program": ECHO})
    await client.run({"program": {**ECHO, "files": {"main.py": "raise SystemExit(3)"}}})
    count = "select submitted, succeeded, failed, runs from usage_daily where tenant_id = %s"
    with psycopg.connect(admin_url(stack), autocommit=True) as connection:
        async with asyncio.timeout(60):  # the timer comes round every five seconds
            while connection.execute(count, [tenant]).fetchall() != [(2, 1, 1, 2)]:
                await asyncio.sleep(0.2)
        async with asyncio.timeout(30):  # each look at a part gives up after two seconds
            while (health := await projections(client))["status"] != "ok":
                await asyncio.sleep(0.2)
    assert health["usage_daily"]["parkedStreams"] == 0
    for name in ("intent_states", "usage_daily", "error_patterns"):
        rebuilt = await qlp("projections", "rebuild", name, "--yes", url=admin_url(stack))
        assert rebuilt.code == 0, rebuilt.err
        assert (await stack.qlp("projections", "verify", name)).code == 0
    assert (await client.run({"program": ECHO}))["status"] == "succeeded"


async def test_the_schema_is_up_to_date_after_a_start(stack: RunningStack) -> None:
    said = await qlp("migrate", url=admin_url(stack))
    assert (said.code, said.out) == (0, "nothing to apply\n")


async def projections(client: Client) -> Any:
    return (await client.get("/health")).body["checks"]["projections"]


def admin_url(stack: RunningStack) -> str:
    settings = dict(
        line.split("=", 1) for line in (stack.data / "env").read_text().splitlines() if line
    )
    return settings["DATABASE_ADMIN_URL"].strip("'")


async def test_mistakes_are_one_line_and_exit_with_1(stack: RunningStack) -> None:
    for arguments in (
        ("streams", "show", str(uuid4())),
        ("streams", "replay", str(uuid4())),
        ("streams", "show", "nonsense"),
        ("keys", "revoke", "nonsense"),
        ("keys", "create", "--tenant", "NOT A TENANT"),
        ("rejected", "show", str(uuid4())),
        ("rejected", "show", "nonsense"),
    ):
        said = await stack.qlp(*arguments)
        assert (said.code, said.out) == (1, ""), arguments
        assert said.err.startswith("qlp: "), arguments


async def test_an_unreachable_database_is_said_at_once() -> None:
    async with asyncio.timeout(60):
        said = await qlp("streams", "list", url="postgresql://127.0.0.1:1/none")
    assert said.code == 1
    assert "cannot be reached" in said.err
    missing = await qlp("streams", "list")
    assert "DATABASE_URL" in missing.err
