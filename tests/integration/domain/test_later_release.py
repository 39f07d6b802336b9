"""A release that is rolled back has written what this one cannot read: nothing is made of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import azure.functions as func
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys
from domain.app import App, open_app
from domain.eventlog.intent_streams import UnreadableStream, stream_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.intents.events import IntentSucceeded, SandboxRunFinished, SandboxRunRequested
from domain.intents.refusals import IntentAlreadyFinished, IntentNotFound
from domain.intents.run_decisions import run_id_of
from domain.messaging.held import HeldMessages
from domain.operations.doctor.database import DatabaseExam
from domain.operations.projections import rebuild, verify
from domain.operations.time_travel import travel
from domain.projections.following.parked import parked_streams
from domain.projections.registry import Projections
from domain.projections.verify.contract import CannotCompare
from domain.settings import Settings
from functions import intents_http, operations_http
from tests.support import application
from tests.support.intents.later_release import later_release
from tests.support.intents.recorder import TRACEPARENT, Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp
from tests.support.servicebus.broker import BrokerProcess


@pytest.fixture
async def app(database: Database, servicebus: BrokerProcess) -> AsyncIterator[App]:
    """The application as it is today, over a broker."""
    servicebus.reset()
    environment = {
        "DATABASE_URL": database.url,
        "ServiceBusConnection": servicebus.connection_string,
    }
    opened = await open_app(Settings.from_environment(environment))
    await application.background_ended()  # what it began to do when it was opened
    await ApiKeys(opened.pool).ensure_tenant("acme")
    yield opened
    await application.close(opened)


async def count_events(pool: AsyncConnectionPool) -> int:
    async with pool.connection() as connection:
        [[count]] = await (await connection.execute("select count(*) from events")).fetchall()
    return int(count)


async def usage(pool: AsyncConnectionPool) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "select sum(submitted), sum(succeeded), sum(cancelled) from usage_daily"
        )
        return await cursor.fetchall()


async def parked(pool: AsyncConnectionPool) -> set[tuple[str, str]]:
    return {(each.projection, each.stream_id) for each in await parked_streams(pool)}


async def test_commands_for_what_cannot_be_read_are_refused_and_change_nothing(app: App) -> None:
    recorder = Recorder(app.pool)
    with later_release(IntentSucceeded):
        intent = await recorder.finished()
    before = await count_events(app.pool)
    reason = "IntentSucceeded has schema version 2, of a later release; this one reads up to 1"
    with pytest.raises(UnreadableStream, match=reason):
        await app.service.cancel("acme", intent, None, traceparent=TRACEPARENT)
    with pytest.raises(UnreadableStream, match=reason):
        await app.service.kill("acme", intent, "ops", None, traceparent=TRACEPARENT)
    with pytest.raises(IntentNotFound):
        await app.service.cancel("other", intent, None, traceparent=TRACEPARENT)
    assert await count_events(app.pool) == before
    row = await app.reads.get("acme", intent)
    assert row is not None
    assert row.status == "succeeded"
    with later_release(IntentSucceeded), pytest.raises(IntentAlreadyFinished):
        await app.service.cancel("acme", intent, None, traceparent=TRACEPARENT)


async def test_a_stream_with_a_gap_is_not_decided_about_either(
    app: App, owner: AsyncConnectionPool
) -> None:
    intent = await Recorder(app.pool).running()
    async with owner.connection() as connection:
        await connection.execute("set session_replication_role = replica")
        await connection.execute(
            "delete from events where stream_id = %s and version = 2", [stream_of(intent)]
        )
        await connection.execute("set session_replication_role = origin")
    with pytest.raises(UnreadableStream, match="event 2 is missing"):
        await app.service.cancel("acme", intent, None, traceparent=TRACEPARENT)
    verified = await verify(app.pool, "intent_states")
    assert (verified.differing, verified.unfoldable) == (0, 1)


async def test_read_models_keep_what_they_have_and_take_the_rest_after_rolling_forward(
    app: App, owner: AsyncConnectionPool
) -> None:
    recorder, projections = Recorder(app.pool), Projections(app.pool)
    with later_release(IntentSucceeded):
        intent = await recorder.finished()
    await recorder.cancelled()

    await projections.run_until_caught_up()
    assert await usage(app.pool) == [(2, 0, 1)]
    verified = await verify(app.pool, "intent_states")
    assert (verified.compared, verified.differing, verified.unfoldable) == (1, 0, 1)
    rebuilt = await rebuild(owner, "intent_states", on_progress=lambda _: None).run()
    assert rebuilt.parked == 1
    row = await app.reads.get("acme", intent)
    assert row is not None
    assert row.status == "succeeded", "the row that the later release wrote"
    stream = stream_of(intent)
    assert await parked(app.pool) == {
        ("intent_states", stream), ("usage_daily", stream), ("error_patterns", stream)
    }  # fmt: skip
    verified = await verify(app.pool, "usage_daily")
    assert (verified.differing, verified.unfoldable) == (0, 1)
    await projections.run_until_caught_up()
    assert len(await parked(app.pool)) == 3, "it waits"

    with later_release(IntentSucceeded):
        await projections.run_until_caught_up()
        assert await parked(app.pool) == set()
        assert await usage(app.pool) == [(2, 1, 1)]
        for name in ("intent_states", "usage_daily", "error_patterns"):
            verified = await verify(app.pool, name)
            assert (verified.differing, verified.unfoldable) == (0, 0)


async def test_a_row_that_is_behind_is_made_up_after_rolling_forward(
    app: App, owner: AsyncConnectionPool
) -> None:
    with later_release(IntentSucceeded):
        intent = await Recorder(app.pool).finished()
    async with owner.connection() as connection:
        await connection.execute("delete from intent_states")
    assert (await rebuild(owner, "intent_states", on_progress=lambda _: None).run()).parked == 1
    assert await app.reads.get("acme", intent) is None
    with later_release(IntentSucceeded):
        await Projections(app.pool).run_until_caught_up()
        assert (await verify(app.pool, "intent_states")).differing == 0
    assert await parked(app.pool) == set()


async def test_a_projection_that_went_further_is_not_said_to_differ(app: App) -> None:
    with later_release(IntentSucceeded):
        await Recorder(app.pool).finished()
        await Projections(app.pool).run_until_caught_up()
    with pytest.raises(CannotCompare, match="processed 1 streams further than this release"):
        await verify(app.pool, "usage_daily")
    assert await usage(app.pool) == [(1, 1, 0)]


async def call(app: App, function: Any, key: str, intent: UUID, method: str = "GET") -> Any:
    """What an HTTP function answers: status and body."""
    request = func.HttpRequest(
        method=method, url="/api/intents", body=b"", headers={"X-API-Key": key},
        route_params={"id": str(intent)},
    )  # fmt: skip
    response = await function(request)
    return response.status_code, json.loads(response.get_body())


async def test_clients_are_told_and_other_tenants_are_not(
    app: App, monkeypatch: pytest.MonkeyPatch, owner: AsyncConnectionPool
) -> None:
    async def this_app() -> App:
        return app

    monkeypatch.setattr("functions.http.get_app", this_app)
    await app.keys.ensure_tenant("other")
    mine, foreign = [await app.keys.create(t, "operator", "t") for t in ("acme", "other")]
    with later_release(IntentSucceeded):
        intent = await Recorder(app.pool).finished()
    status, problem = await call(app, intents_http.cancel_intent, mine, intent, "POST")
    assert (status, problem["type"]) == (409, "urn:qlp:problem:unreadable-intent")
    assert "IntentSucceeded has schema version 2, of a later release" in problem["detail"]
    for function in (intents_http.cancel_intent, operations_http.kill_run):
        assert (await call(app, function, foreign, intent, "POST"))[0] == 404
    status, shown = await call(app, intents_http.get_intent, mine, intent)
    assert (status, shown["status"]) == (200, "succeeded")
    status, stream = await call(app, operations_http.get_stream, mine, intent)
    assert (status, stream["state"]["status"], len(stream["events"])) == (200, "running", 5)
    assert "of a later release" in stream["unreadable"]

    async with owner.connection() as connection:  # as the owner alone can
        await connection.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, metadata, data) values (gen_random_uuid(), %s, 6, 'Odd', 1, 'acme',
            gen_random_uuid(), '[1]', '{"text": "\\ud800"}')""",
            [stream_of(intent)],
        )
    request = func.HttpRequest(
        method="GET", url="/api/intents", body=b"", headers={"X-API-Key": mine},
        route_params={"id": str(intent)},
    )  # fmt: skip
    client = await app.keys.create("acme", "client", "t")
    with later_release(SandboxRunFinished):
        ended = await Recorder(app.pool).finished()
    status, listed = await call(app, intents_http.list_intent_events, client, ended)
    hidden = [each for each in listed["items"] if each["data"] is None]
    assert (status, [each["type"] for each in hidden]) == (200, ["SandboxRunFinished"])
    for listing in (intents_http.list_intent_events, operations_http.get_stream):
        response = await listing(request)
        assert response.status_code == 200
        assert b'{"text": "\\ud800"}' in response.get_body()


async def test_one_odd_event_does_not_stop_the_relay(app: App, owner: AsyncConnectionPool) -> None:
    async with owner.connection() as connection:
        for metadata in ("[]", '"x"', '{"traceparent": "\\ud800"}', '{"traceparent": 1}'):
            await connection.execute(
                """insert into events (event_id, stream_id, version, type, schema_version,
                tenant_id, command_id, metadata, data) values (gen_random_uuid(),
                'intent-' || gen_random_uuid(), 1, 'SandboxRunRequested', 1, 'acme',
                gen_random_uuid(), %s, '[]')""",
                [metadata],
            )
    await Recorder(app.pool).submitted()
    assert await app.relay.run_until_caught_up(min_age=0) == 5
    assert await app.relay.run_until_caught_up(min_age=0) == 0
    assert {reason for reason, _ in (await held(app)).values()} == {"UnreadableStream"}


def announcement(intent: UUID, version: int = 3) -> bytes:
    envelope = {
        "specversion": "1.0", "id": str(uuid4()), "source": "/qlp/events",
        "type": "qlp.SandboxRunRequested", "subject": str(intent), "tenantid": "acme",
        "data": {"version": version},
    }  # fmt: skip
    return json.dumps(envelope).encode()


def result(intent: UUID, **more: Any) -> bytes:
    run = str(run_id_of(intent, 1))
    data = {"run_id": run, "intent_id": str(intent), "verdict": "succeeded", "exit_code": 0, **more}
    envelope = {
        "specversion": "1.0", "id": run, "source": "/sandbox-host", "type": "qlp.sandbox.result",
        "subject": str(intent), "tenantid": "acme", "data": data,
    }  # fmt: skip
    return json.dumps(envelope).encode()


async def held(app: App) -> dict[str, tuple[str, int]]:
    found = (await app.inbox._rejected.list()).items
    return {each.source: (each.reason, each.deliveries) for each in found}


def next_process(app: App) -> HeldMessages:
    """Held messages as a process sees them that was started later."""
    return HeldMessages(app.held._rejected, app.held._handlers, app.held._log, app.held._relay)


async def test_messages_are_held_and_taken_by_the_release_that_can(app: App) -> None:
    with later_release(SandboxRunRequested):
        intent = await Recorder(app.pool).running()
    await app.relay.run_until_caught_up(min_age=0)
    woken, ended = announcement(intent), result(intent)
    await app.inbox.announcement("intent-events", woken)
    await app.inbox.announcement("intent-events", woken)
    await app.inbox.result("sandbox-results", ended)
    [job] = [source for source in await held(app) if source.startswith("relay/")]
    reason = "UnreadableStream"
    assert await held(app) == {
        "intent-events": (reason, 2), "sandbox-results": (reason, 1), job: (reason, 1)
    }  # fmt: skip

    assert await app.held.retake() == 0
    assert (await held(app))["intent-events"] == (reason, 3)
    assert await app.held.retake() == 0
    assert (await held(app))["intent-events"] == (reason, 3), "a process tries each once"
    row = await app.reads.get("acme", intent)
    assert row is not None
    assert row.status == "running"

    with later_release(SandboxRunRequested):
        assert await next_process(app).retake() == 3
        state = await app.repository.load(intent)
    assert state is not None
    assert state.status == "succeeded"
    assert await held(app) == {}


async def test_a_result_of_a_newer_host_is_taken_or_held(app: App) -> None:
    intent = await Recorder(app.pool).running()
    await app.inbox.result("sandbox-results", result(intent, verdict="melted"))
    assert await held(app) == {"sandbox-results": ("NewerResult", 1)}
    await app.inbox.result("sandbox-results", result(intent, temperature=21.5))
    state = await app.repository.load(intent)
    assert state is not None
    assert state.status == "succeeded"


async def test_the_doctor_counts_and_names_the_fix(app: App) -> None:
    async def findings() -> list[tuple[str, str, str]]:
        found = await DatabaseExam(app.pool, 60).examine()
        return [(f.status, f.detail, f.fix) for f in found if f.check == "later release"]

    assert await findings() == [("ok", "it has written nothing here", "")]
    with later_release(IntentSucceeded):
        intent = await Recorder(app.pool).finished()
    audited = NewEvent(uuid4(), "IntentAudited", 1, {"at": "2031-01-01T00:00:00Z"})
    await EventLog(app.pool).append("audits", "acme", 0, uuid4(), [audited], {})
    await Projections(app.pool).run_until_caught_up()
    await app.inbox.announcement("intent-events", announcement(intent))
    newer, unknown = await findings()
    assert newer[0] == "fail"
    assert "cannot read 1 of IntentSucceeded 2; parked streams: 2; held messages: 1" in newer[1]
    assert newer[2].startswith("deploy the release that wrote them, or a later one")
    assert unknown[:2] == (
        "warn", "events of unknown types, which are ignored: 1 of IntentAudited 1"
    )  # fmt: skip


async def test_time_travel_shows_what_is_known_and_says_what_is_not(
    app: App, database: Database
) -> None:
    with later_release(IntentSucceeded):
        intent = await Recorder(app.pool).finished()
    then = await travel(app.repository, intent)
    assert (then.version, then.latest_version, len(then.events)) == (5, 5, 5)
    assert then.unreadable is not None
    assert (len(then.history), then.state["status"]) == (4, "running")
    assert (await travel(app.repository, intent, 4)).unreadable is None
    shown = await qlp("streams", "show", str(intent), "--as-of", "5", url=database.url)
    assert (shown.code, "unreadable from there on" in shown.out) == (0, True)
    replayed = await qlp("streams", "replay", str(intent), url=database.url)
    assert (replayed.code, "of a later release" in replayed.err) == (1, True)
    nowhere = await qlp("replay", "--where", "tenant=acme", "--json", "--yes", url=database.url)
    assert "cannot be read" in nowhere.out
