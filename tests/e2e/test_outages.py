"""A database that is there and says "not now": nothing is lost, everybody is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.local.stack.stack import TENANT
from tests.support.stack import Reply, RunningStack, intent_of, running_stack, saying, submission
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: How long the database stays as it is. A message that is given back at once spends its ten
#: deliveries in less than a second.
SECONDS = 5.0


def as_owner(stack: RunningStack, *statements: str) -> None:
    with psycopg.connect(
        stack.endpoints.database_admin_url,
        autocommit=True,
        dbname="postgres",
        options="-c default_transaction_read_only=off",
    ) as owner:
        for statement in statements:
            owner.execute(statement.encode())


async def read_only(stack: RunningStack) -> None:
    """What a server on Azure does whose disk is nearly full."""
    as_owner(
        stack, "alter system set default_transaction_read_only = on", "select pg_reload_conf()"
    )
    # The server has read it once new sessions have it; then it has told the others, too.
    await until(lambda: new_sessions_are_read_only(stack))


def new_sessions_are_read_only(stack: RunningStack) -> bool:
    with psycopg.connect(stack.endpoints.database_admin_url) as session:
        [value] = session.execute("show default_transaction_read_only").fetchone() or [""]
    return bool(value == "on")


async def writable(stack: RunningStack) -> None:
    as_owner(stack, "alter system reset default_transaction_read_only", "select pg_reload_conf()")


async def full(stack: RunningStack) -> None:
    """Each connection of the application's login is refused, those that are there are ended."""
    as_owner(stack, "alter role qlp connection limit 0", END_SESSIONS)


async def empty(stack: RunningStack) -> None:
    as_owner(stack, "alter role qlp connection limit -1")


END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'qlp'"


async def health(stack: RunningStack) -> Reply:
    return await stack.client_with(None).get("/health")


async def until_health_is(stack: RunningStack, status: str) -> Reply:
    async with asyncio.timeout(60):
        while (reply := await health(stack)).body["status"] != status:
            await asyncio.sleep(0.1)
    return reply


async def submit_until_accepted(stack: RunningStack, number: int) -> str:
    async with asyncio.timeout(60):
        while True:
            reply = await stack.client.submit(saying(number), Idempotency_Key=f"key-{number}")
            if reply.status != 503:
                assert reply.status in (200, 202), reply.body
                return str(reply.body["id"])
            await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("begin", "end", "problem"),
    [
        pytest.param(read_only, writable, "is read-only", id="read-only"),
        pytest.param(full, empty, "cannot be reached", id="too many connections"),
    ],
)
async def test_while_the_database_says_not_now_clients_are_told_and_messages_wait(
    open_path: Path, monkeypatch: pytest.MonkeyPatch, begin: Any, end: Any, problem: str
) -> None:
    monkeypatch.setenv("QLP_SANDBOX_RUNTIMES", "bubblewrap")
    async with running_stack(open_path / "data") as stack:
        client = stack.client
        running = (await client.submit(saying(1, seconds=2))).body["id"]
        await client.until_running(running)
        await begin(stack)

        refused = await client.submit(saying(2), Idempotency_Key="key-2")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "2"), refused.body
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert problem in refused.body["detail"]
        assert (await until_health_is(stack, "failed")).status == 503

        events = [submission(TENANT, saying(number)) for number in range(10, 15)]
        await stack.publish("intents", *(json.dumps(event) for event in events))
        if begin is read_only:
            assert (await client.get(f"/intents/{running}")).status == 200, "reading goes on"
            said = await stack.qlp("keys", "create", "--tenant", TENANT)
            assert said.code == 1
            assert said.err.startswith("qlp: the database is read-only: ")
            assert said.err.count("\n") == 1
        await asyncio.sleep(SECONDS)
        await end(stack)

        accepted = [running, await submit_until_accepted(stack, 2)]
        accepted += map(intent_of, events)
        async with asyncio.timeout(100):
            for intent_id in accepted:
                while (found := await client.finished(intent_id)).get("status") != "succeeded":
                    await asyncio.sleep(0.1)
                assert found["outcome"]["stdout"].startswith("number ")
        await until_health_is(stack, "ok")
        letters = await stack.qlp(
            "dead-letters", "list", "--json", ServiceBusConnection=stack.endpoints.service_bus
        )
        assert letters.json["items"] == []
        log = (stack.data / "logs" / "functions.log").read_text()
        assert "Traceback" not in log
