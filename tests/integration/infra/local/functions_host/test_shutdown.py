"""SIGTERM to a host that serves the application under load: nothing stays open, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from dataclasses import dataclass, field
from uuid import uuid4

import aiohttp
import psycopg
import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from domain.access.store import ApiKeys
from domain.application.service import intent_id_for
from domain.database.pool import open_pool
from tests.support import ROOT
from tests.support.functions_host import HostFactory, HostProcess
from tests.support.postgres import Database
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess
from tests.support.stack import submission

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TENANT = "demo"
PUBLISHED, CLIENTS = 60, 6
#: The signal is sent when so many submissions have been accepted.
ACCEPTED_BEFORE = 15

PROGRAM = {"language": "shell", "files": {"main.sh": "echo hello"}}


@dataclass
class Clients:
    """Clients that submit until the host cuts them off, and repeat the last one once it serves."""

    url: str
    api_key: str
    accepted: set[str] = field(default_factory=set)
    submitted: int = 0
    cut_off: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    serving: asyncio.Event = field(default_factory=asyncio.Event)

    async def submit_all(self) -> None:
        self.serving.set()
        async with aiohttp.ClientSession(headers={"X-API-Key": self.api_key}) as session:
            await asyncio.gather(*(self._submit_until_cut_off(session) for _ in range(CLIENTS)))

    async def _submit_until_cut_off(self, session: aiohttp.ClientSession) -> None:
        cut_off = False
        while not cut_off:
            self.submitted += 1
            key = str(uuid4())
            while (intent_id := await self._submit(session, key)) is None:
                cut_off = True
                self.cut_off += 1
                await self.serving.wait()
            self.accepted.add(intent_id)
            if len(self.accepted) == ACCEPTED_BEFORE:
                self.enough.set()

    async def _submit(self, session: aiohttp.ClientSession, key: str) -> str | None:
        headers = {"Idempotency-Key": key}
        try:
            async with session.post(
                f"{self.url}/api/intents", json={"program": PROGRAM}, headers=headers
            ) as response:
                assert response.status in (200, 202), await response.text()
                return str((await response.json())["id"])
        except aiohttp.ClientError:
            return None


async def test_sigterm_under_load_leaves_nothing_open_and_loses_nothing(
    functions_host: HostFactory,
    broker_process: BrokerFactory,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = broker_process()
    use_settings(monkeypatch, database, broker)
    api_key = await new_api_key(database)
    host = functions_host(ROOT)
    clients = Clients(host.url, api_key)
    events = [submission(TENANT, {"program": PROGRAM}) for _ in range(PUBLISHED)]
    published = {
        str(intent_id_for(TENANT, "service_bus", f"{event['source']}\n{event['id']}"))
        for event in events
    }
    async with ServiceBusClient.from_connection_string(broker.connection_string) as bus:
        async with bus.get_queue_sender("intents") as sender:
            submitting = asyncio.create_task(clients.submit_all())
            await sender.send_messages([ServiceBusMessage(json.dumps(event)) for event in events])
        await clients.enough.wait()
        clients.serving.clear()

        await asyncio.to_thread(terminate, host)

        await asyncio.to_thread(wait_until_no_session_is_open, database)
        await asyncio.to_thread(broker.wait_for, lambda health: health["connections"] == 0)
        assert locked(broker.health()) == 0
        assert "Traceback" not in host.log
        assert not submitting.done()
        assert clients.cut_off > 0

        host.start()
        clients.serving.set()
        await submitting
        assert len(clients.accepted) == clients.submitted
        expected = clients.accepted | published
        await asyncio.to_thread(wait_until_all_jobs_are_sent, broker, database, len(expected))
        requested = run_ids(database)
        assert requested.keys() == expected  # each of them in one stream, with one run
        assert await runs_on(bus) == set(requested.values())


def use_settings(
    monkeypatch: pytest.MonkeyPatch, database: Database, broker: BrokerProcess
) -> None:
    """Those of the local stack; recovery would look for a lost message after ten minutes only."""
    template = json.loads((ROOT / "local.settings.template.json").read_text())
    for name, value in template["Values"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("DATABASE_ADMIN_URL", "")
    monkeypatch.setenv("ServiceBusConnection", broker.connection_string)
    monkeypatch.setenv("QLP_RUN_TOKEN_KEY", secrets.token_urlsafe(32))
    monkeypatch.setenv("QLP_STALLED_AFTER_SECONDS", "600")


async def new_api_key(database: Database) -> str:
    pool = await open_pool(database.url, min_size=1, max_size=1, application_name="tests")
    try:
        keys = ApiKeys(pool)
        await keys.ensure_tenant(TENANT)
        return await keys.create(TENANT, "client", "test")
    finally:
        await pool.close()


def terminate(host: HostProcess) -> None:
    assert host.process is not None
    host.process.send_signal(signal.SIGTERM)
    assert host.wait() == 0


def wait_until_no_session_is_open(database: Database) -> None:
    """The server notices a closed socket a moment later than the process that has closed it."""
    deadline = time.monotonic() + 60
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        while rows := connection.execute(
            "select application_name, state, query from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_type = 'client backend'"
        ).fetchall():
            assert time.monotonic() < deadline, rows
            time.sleep(0.02)


def locked(health: dict[str, dict[str, dict[str, int]]]) -> int:
    """Messages that a receiver still holds, in all entities."""
    return sum(depth.get("locked", 0) for depth in health["entities"].values())


def wait_until_all_jobs_are_sent(broker: BrokerProcess, database: Database, count: int) -> None:
    """Every intent has asked for its run, and the relay has sent at least as many jobs."""
    deadline = time.monotonic() + 120
    while (found := len(run_ids(database))) < count:
        assert time.monotonic() < deadline, f"{found} of {count} runs were asked for"
        time.sleep(0.1)
    broker.wait_for(lambda health: health["entities"]["sandbox-jobs"]["active"] >= count)


def run_ids(database: Database) -> dict[str, str]:
    """The run of each intent in the log, which asks for no second one."""
    with psycopg.connect(database.admin_url) as connection:
        rows = connection.execute(
            "select stream_id, data->>'run_id' from events where type = 'SandboxRunRequested'"
        ).fetchall()
    found = {stream_id.removeprefix("intent-"): run_id for stream_id, run_id in rows}
    assert len(found) == len(rows)
    return found


async def runs_on(bus: ServiceBusClient) -> set[str]:
    """The runs that jobs on the queue are for; a job may be there twice, under the same id."""
    found: set[str] = set()
    first = 0
    async with bus.get_queue_receiver("sandbox-jobs") as receiver:
        while messages := await receiver.peek_messages(100, sequence_number=first):
            found |= {json.loads(str(message))["data"]["run_id"] for message in messages}
            first = int(messages[-1].sequence_number or 0) + 1
    return found
