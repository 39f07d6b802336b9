"""Each part is killed with SIGKILL under load; nothing accepted is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg
import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from infra.local.servicebus.broker.config import DEFAULT_CONFIG
from infra.local.stack.stack import TENANT
from tests.support.stack import Client, RunningStack, intent_of, running_stack, saying, submission

INTENTS = 100
WORKERS = 8
#: The fault strikes when so many intents have been accepted.
STRIKE_AT = 30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Fault = Callable[[RunningStack], Awaitable[None]]


async def kill_and_restart(stack: RunningStack, name: str) -> None:
    child = stack.stack.children[name]
    await child.kill()
    await child.start(60)


async def kill_functions(stack: RunningStack) -> None:
    await kill_and_restart(stack, "functions")


async def kill_sandbox(stack: RunningStack) -> None:
    await kill_and_restart(stack, "sandbox")


async def kill_broker(stack: RunningStack) -> None:
    """The broker keeps its messages in memory: all that it held is gone."""
    await kill_and_restart(stack, "servicebus")


async def kill_postgres(stack: RunningStack) -> None:
    pid = int((stack.data / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    child = stack.stack.children["postgres"]
    await child.ended()
    await child.start(60)


async def empty_postgres(stack: RunningStack) -> None:
    """For a while there are no tables, as before a backup has been played into a new server."""
    admin = stack.endpoints.database_admin_url
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        await connection.execute("alter schema public rename to later")
        await asyncio.sleep(3)
        await connection.execute("alter schema later rename to public")


@pytest.fixture
def data_with_short_timeouts(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Short locks, a short wait before recovery and the faster sandbox: seconds, not minutes."""
    lines = DEFAULT_CONFIG.read_text().splitlines()
    text = "\n".join(line for line in lines if not line.strip().startswith("//"))
    config = open_path / "servicebus.json"
    config.write_text(text.replace('"PT1M"', '"PT8S"'))
    monkeypatch.setenv("QLP_SERVICE_BUS_CONFIG", str(config))
    monkeypatch.setenv("QLP_SANDBOX_RUNTIMES", "bubblewrap")
    monkeypatch.setenv("QLP_STALLED_AFTER_SECONDS", "4")
    monkeypatch.setenv("QLP_RECOVERY_SCHEDULE", "*/2 * * * * *")
    monkeypatch.setenv("QLP_RELAY_SCHEDULE", "*/2 * * * * *")
    return open_path / "data"


def body(number: int) -> dict[str, Any]:
    """Most programs are short, some are still running when the fault strikes."""
    return saying(number, seconds=1 if number % 20 == 0 else 0)


class Load:
    """Clients that submit with an idempotency key and repeat until they are answered."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.accepted: dict[int, str] = {}
        self.struck = asyncio.Event()

    async def run(self) -> None:
        numbers = iter(range(INTENTS))
        await asyncio.gather(*(self._worker(numbers) for _ in range(WORKERS)))

    async def _worker(self, numbers: Any) -> None:
        for number in numbers:
            self.accepted[number] = await self._submit(number, str(uuid4()))
            if len(self.accepted) >= STRIKE_AT:
                self.struck.set()

    async def _submit(self, number: int, key: str) -> str:
        while True:
            try:
                reply = await self.client.submit(body(number), Idempotency_Key=key)
            except (aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(0.1)
                continue
            if reply.status in (200, 202):
                return str(reply.body["id"])
            assert reply.status == 503, reply.body
            await asyncio.sleep(0.1)


async def all_finished(client: Client, accepted: dict[int, str]) -> dict[int, Any]:
    async def finished(intent_id: str) -> Any:
        while True:
            try:
                intent = await client.finished(intent_id, wait=20)
            except (aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(0.2)
                continue
            if intent.get("completed_at"):
                return intent

    async with asyncio.timeout(400):
        intents = await asyncio.gather(*(finished(intent_id) for intent_id in accepted.values()))
    return dict(zip(accepted, intents, strict=True))


def verify_log(database_url: str, accepted: dict[int, str]) -> None:
    """The log holds each accepted intent exactly once, whole, with one end and one result."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select stream_id, version, type, event_id from events order by stream_id, version"
        ).fetchall()
    streams: dict[str, list[str]] = {}
    for stream_id, version, type_, _ in rows:
        types = streams.setdefault(stream_id, [])
        assert version == len(types) + 1, f"{stream_id} has a gap"
        types.append(type_)
    assert len({event_id for *_, event_id in rows}) == len(rows)
    assert set(streams) == {f"intent-{intent_id}" for intent_id in accepted.values()}
    for stream_id, types in streams.items():
        count = Counter(types)
        assert count["IntentSubmitted"] == 1, (stream_id, types)
        assert count["IntentSucceeded"] + count["IntentFailed"] == 1, (stream_id, types)
        assert count["SandboxRunFinished"] == count["SandboxRunRequested"], (stream_id, types)


@pytest.mark.parametrize(
    "fault", [kill_functions, kill_sandbox, kill_broker, kill_postgres, empty_postgres]
)
async def test_every_accepted_intent_ends_exactly_once(
    data_with_short_timeouts: Path, fault: Fault
) -> None:
    async with running_stack(data_with_short_timeouts) as stack:
        load = Load(stack.client)
        working = asyncio.create_task(load.run())
        await load.struck.wait()
        await fault(stack)
        await working
        assert len(load.accepted) == INTENTS
        intents = await all_finished(stack.client, load.accepted)
        for number, intent in intents.items():
            assert intent["status"] == "succeeded", intent
            assert intent["outcome"]["stdout"] == f"number {number}\n"
        verify_log(stack.endpoints.database_url, load.accepted)


async def test_producers_messages_survive_a_crash_of_the_functions_host(
    data_with_short_timeouts: Path,
) -> None:
    async with running_stack(data_with_short_timeouts) as stack:
        events = [submission(TENANT, body(number)) for number in range(60)]
        async with (
            ServiceBusClient.from_connection_string(stack.endpoints.service_bus) as bus,
            bus.get_queue_sender("intents") as sender,
        ):
            await sender.send_messages([ServiceBusMessage(json.dumps(e)) for e in events[:30]])
            await stack.stack.children["functions"].kill()
            await sender.send_messages([ServiceBusMessage(json.dumps(e)) for e in events[30:]])
        await stack.stack.children["functions"].start(60)
        accepted = {number: intent_of(event) for number, event in enumerate(events)}
        intents = await all_finished(stack.client, accepted)
        assert all(intent["status"] == "succeeded" for intent in intents.values())
        verify_log(stack.endpoints.database_url, accepted)


async def test_what_waits_for_its_turn_is_not_published_again(
    data_with_short_timeouts: Path,
) -> None:
    async with running_stack(data_with_short_timeouts) as stack:
        program = {
            "language": "shell",
            "files": {"main.sh": "sleep 1"},
            "limits": {"wall_seconds": 3},
        }
        replies = await asyncio.gather(
            *(stack.client.submit({"program": program}) for _ in range(16 * (os.cpu_count() or 1)))
        )
        intents = await all_finished(
            stack.client, {n: reply.body["id"] for n, reply in enumerate(replies)}
        )
        assert {intent["status"] for intent in intents.values()} == {"succeeded"}
        with psycopg.connect(stack.endpoints.database_url) as connection:
            tried = connection.execute(
                "select count(*), coalesce(max(attempts), 0) from intent_recovery"
            ).fetchone()
        assert tried is not None
        assert tried[0] > 0  # some waited for so long that they were looked for
        assert tried[1] == 0  # and were found, each time
        logs = "".join(log.read_text() for log in (stack.data / "logs").iterdir())
        assert "publishing it again" not in logs
        assert "dropped a duplicate" not in logs
        assert "sending its result again" not in logs


async def test_a_run_that_was_cut_off_is_run_again_and_recorded_once(
    data_with_short_timeouts: Path,
) -> None:
    async with running_stack(data_with_short_timeouts) as stack:
        client = stack.client
        program = {"language": "shell", "files": {"main.sh": "sleep 3; echo survived"}}
        intent = (await client.submit({"program": program})).body
        await client.until_running(intent["id"])
        await kill_sandbox(stack)
        intents = await all_finished(client, {0: intent["id"]})
        assert intents[0]["outcome"]["stdout"] == "survived\n"
        verify_log(stack.endpoints.database_url, {0: intent["id"]})
