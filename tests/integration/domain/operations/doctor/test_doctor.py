"""The doctor finds each ailment, names the fix, and changes nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from aiohttp import web
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import open_pool
from domain.eventlog.log import EventLog
from domain.messaging.rejected import RejectedMessages
from domain.operations.doctor import database as doctor_database
from domain.operations.doctor import sealing as doctor_sealing
from domain.operations.doctor.database import DatabaseExam
from domain.operations.doctor.examine import examine_environment
from domain.operations.doctor.findings import Finding, worst
from domain.operations.doctor.services import examine_bus, examine_sandbox
from domain.operations.doctor.similarity import examine_similarity
from domain.operations.doctor.triggers import _tried, examine_triggers
from domain.operations.log_integrity import LogVerifier
from domain.projections.intents import IntentReads
from domain.projections.registry import Projections
from domain.sealing.anchors import FileAnchor
from domain.sealing.keys import FileKey
from domain.sealing.sealer import Sealer
from domain.settings import Settings
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp
from tests.support.sealing import new_key
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess


async def found(pool: AsyncConnectionPool, check: str, after: float = 60) -> list[Finding]:
    findings = await DatabaseExam(pool, after).examine()
    return [finding for finding in findings if finding.check == check]


def as_owner(database: Database, statement: str) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(statement)


async def test_a_healthy_database_passes_and_is_left_as_it_was(
    pool: AsyncConnectionPool,
) -> None:
    await Recorder(pool).finished()
    head = await EventLog(pool).heads()
    findings = await DatabaseExam(pool, 60).examine()
    by_check = {finding.check: finding for finding in findings}
    assert {
        *("database", "schema", "rights", "triggers", "vectors", "sealing", "relay"),
        *("stalled intents", "rejected messages"),
    } <= set(by_check)
    ailing = [finding for finding in findings if finding.status != "ok"]
    assert ailing == []
    assert await EventLog(pool).heads() == head


async def test_what_is_tried_in_order_to_be_refused_is_no_outage(database: Database) -> None:
    pool = await open_pool(database.url, min_size=1, max_size=2, application_name="tests")
    try:
        assert [finding.status for finding in await found(pool, "rights")] == ["ok"]
        assert pool.recent_outage(60) is None, "health would be degraded"
    finally:
        await pool.close()


async def test_a_read_only_database_is_found(database: Database) -> None:
    url = f"{database.url}&options=-c%20default_transaction_read_only%3Don"
    pool = await open_pool(url, min_size=1, max_size=1, application_name="tests")
    try:
        [finding] = await found(pool, "writes")
    finally:
        await pool.close()
    assert (finding.status, "read-only" in finding.detail) == ("fail", True)
    assert "free space on its disk" in finding.fix


@pytest.mark.parametrize("right", ["insert", "update", "delete", "truncate"])
async def test_a_right_too_many_is_found_by_trying(
    pool: AsyncConnectionPool, database: Database, right: str
) -> None:
    await Recorder(pool).submitted()
    as_owner(database, f"grant {right} on events to qlp_app")
    [finding] = await found(pool, "rights")
    assert (finding.status, f"may {right} on events:" in finding.detail) == ("fail", True)
    assert f"revoke {right} on events from qlp_app" in finding.fix
    assert len(await EventLog(pool).streams()) == 1, "what was tried is rolled back"


async def test_an_owner_at_work_is_found(database: Database) -> None:
    pool = await open_pool(
        database.admin_url, min_size=1, max_size=1, role="postgres", application_name="tests"
    )
    try:
        [finding] = await found(pool, "rights")
    finally:
        await pool.close()
    assert "may insert on events, update on events, delete on events" in finding.detail


async def test_a_disabled_and_a_missing_trigger_are_found(
    pool: AsyncConnectionPool, database: Database
) -> None:
    as_owner(database, "alter table events disable trigger events_immutable")
    as_owner(database, "drop trigger events_not_truncated on events")
    disabled, missing = await found(pool, "triggers")
    assert disabled.fix == "as the owner: alter table events enable trigger events_immutable"
    assert (missing.status, missing.detail) == (
        *("fail", "events_not_truncated on events is missing"),
    )
    as_owner(database, disabled.fix.removeprefix("as the owner: "))
    assert len(await found(pool, "triggers")) == 1


REPLACED = [
    "create or replace function refuse_change() returns trigger language plpgsql as"
    " $$ begin return new; end $$",
    "create or replace function set_event_digest() returns trigger language plpgsql as"
    " $$ begin new.digest := sha256('x'); return new; end $$",
    "create or replace trigger events_immutable before update or delete on events"
    " for each row when (false) execute function refuse_change()",
    "create or replace trigger events_immutable before update of type on events"
    " for each row execute function refuse_change()",
    "create function nothing() returns trigger language plpgsql as $$ begin return null; end $$;"
    "create or replace trigger seals_not_truncated before truncate on seals"
    " for each statement execute function nothing()",
    "drop trigger seals_immutable on seals",
    "create or replace trigger events_digest before insert on events"
    " for each row when (false) execute function set_event_digest()",
    "create or replace function set_event_lane() returns trigger language plpgsql as"
    " $$ begin new.lane := 0; new.lane_position := 1; new.chain_digest := ''; return new; end $$",
    "drop trigger events_lane on events",
    "alter table events enable replica trigger events_immutable",
    "do $$ begin execute format('alter database %I set session_replication_role = replica',"
    " current_database()); end $$",
    "create rule harmless as on delete to events do instead nothing",
]


@pytest.mark.parametrize("replaced", REPLACED)
async def test_triggers_that_only_look_like_it_are_found(
    database: Database, pool: AsyncConnectionPool, replaced: str
) -> None:
    as_owner(database, replaced)
    fresh = await open_pool(database.url, min_size=1, max_size=2, application_name="tests")
    try:
        looked = [f for f in await examine_triggers(fresh, None) if f.status == "fail"]
        tried = [f for f in await _tried(database.admin_url) if f.status == "fail"]
    finally:
        await fresh.close()
    assert looked, "by what the application can see"
    assert tried, "by what the owner can do"


MORE = [
    (
        "create function forge() returns trigger language plpgsql as"
        " $$ begin if new.tenant_id <> 'doctor' then new.data := '{}'; end if;"
        " return new; end $$;"
        " create trigger a_first before insert on events for each row execute function forge()",
        "a_first on events is a trigger that should not exist",
    ),
    (
        "alter table events enable row level security;"
        " create policy part on events using (tenant_id <> 'acme')",
        "policies can hide rows of events",
    ),
    ("create table more () inherits (events)", "events shares its rows with another table"),
    ("alter table seals set unlogged", "seals is unlogged: a crash would empty it"),
    ("alter table seal_heads set unlogged", "seal_heads is unlogged: a crash would empty it"),
]


@pytest.mark.parametrize(("statement", "detail"), MORE)
async def test_what_is_more_than_the_migrations_made_is_found(
    pool: AsyncConnectionPool, database: Database, statement: str, detail: str
) -> None:
    """Each of them leaves the triggers as they are."""
    as_owner(database, statement)
    assert [(each.status, each.detail) for each in await found(pool, "triggers")] == [
        ("fail", detail)
    ]


async def test_what_the_owner_tries_is_rolled_back(
    database: Database, pool: AsyncConnectionPool
) -> None:
    await Recorder(pool).finished()
    await Sealer(pool).run_until_caught_up()
    [fine] = await examine_triggers(pool, database.admin_url)
    assert (fine.status, "(tried)" in fine.detail) == ("ok", True)
    verified = await LogVerifier(pool).verify()
    assert (verified.seals, verified.events, verified.findings) == (1, 5, [])


MADE_UP = [
    "event_digest(p_event_id uuid, p_command_id uuid, p_recorded_at timestamptz, p_version integer,"
    " p_schema_version smallint, p_stream_id text, p_type text, p_tenant_id text, p_metadata json,"
    " p_data json) returns bytea language sql stable parallel safe return sha256('x'::bytea)",
    "chain_digest(p_lane smallint, p_lane_position bigint, p_before bytea, p_digest bytea)"
    " returns bytea language sql immutable parallel safe return p_digest",
    "lane_of(p_stream_id text) returns smallint language sql stable strict parallel safe"
    " return 0::smallint",
]


@pytest.mark.parametrize("function", MADE_UP)
async def test_digests_and_lanes_that_are_made_up_are_found(
    database: Database, pool: AsyncConnectionPool, function: str
) -> None:
    as_owner(database, f"create or replace function {function}")
    [finding] = await found(pool, "triggers")
    assert (finding.status, "digests do not match" in finding.detail) == ("fail", True)


async def test_an_import_that_was_not_finished_is_named(
    database: Database, pool: AsyncConnectionPool
) -> None:
    assert await found(pool, "import") == []
    as_owner(database, "insert into accepted_import default values")
    [finding] = await found(pool, "import")
    assert (finding.status, finding.fix) == ("warn", "qlp events import --resume")


GRANTS = [
    ("grant update (data) on events to qlp_app", "qlp_app has update on events"),
    ("grant delete on seals to public", "public has delete on seals"),
    ("grant insert on events to pg_monitor", "pg_monitor has insert on events"),
    ("grant execute on function is_staged to public", "public has execute on function is_staged"),
]


@pytest.mark.parametrize(("grant", "said"), GRANTS)
async def test_rights_of_others_and_of_parts_are_found(
    database: Database, pool: AsyncConnectionPool, grant: str, said: str
) -> None:
    as_owner(database, grant)
    findings = [f for f in await found(pool, "rights") if said in f.detail]
    if "public has delete" in said:  # tried, as the application
        [finding] = await found(pool, "rights")
        assert "may delete on seals" in finding.detail
        return
    [finding] = findings
    as_owner(database, finding.fix.removeprefix("as the owner: "))
    assert [f.status for f in await found(pool, "rights")] == ["ok"]


async def test_a_sealer_that_stands_still_is_found(
    pool: AsyncConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Recorder(pool).submitted()
    [fresh] = await found(pool, "sealing")
    assert (fresh.status, fresh.detail.startswith("the oldest unsealed")) == ("ok", True)
    monkeypatch.setattr(doctor_sealing, "_LATE_SECONDS", 0.0)
    [stalled] = await found(pool, "sealing")
    assert (stalled.status, "seal_log" in stalled.fix) == ("warn", True)
    await Sealer(pool).run_until_caught_up()
    [sealed] = await found(pool, "sealing")
    assert (sealed.status, sealed.detail) == ("ok", "every event is sealed")


async def test_seals_that_are_missing_not_signed_or_kept_nowhere_are_found(
    pool: AsyncConnectionPool,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await Recorder(pool).submitted()
    await Sealer(pool).run_until_caught_up()
    [signature] = await found(pool, "seals' signature")
    assert (signature.status, "QLP_SEAL_SIGNER" in signature.fix) == ("warn", True)
    [nowhere] = await found(pool, "seals' anchor")
    assert (nowhere.status, "QLP_SEAL_ANCHOR" in nowhere.fix) == ("warn", True)
    key, anchor = FileKey(new_key(tmp_path)), FileAnchor(tmp_path / "seals")
    await Recorder(pool).submitted()
    await Sealer(pool, key, anchor).run_until_caught_up()
    assert await found(pool, "seals' signature") == []
    [kept] = await found(pool, "seals' anchor")
    assert (kept.status, kept.detail) == ("ok", f"{tmp_path}/seals has seals up to 2")
    await Recorder(pool).submitted()
    await Sealer(pool, key).run_until_caught_up()
    monkeypatch.setattr(doctor_sealing, "_LATE_SECONDS", 0.0)
    [late] = await found(pool, "seals' anchor")
    assert (late.status, "the next one has waited" in late.detail) == ("fail", True)
    as_owner(database, "set session_replication_role = replica; delete from seals")
    [missing] = await found(pool, "sealing")
    assert (missing.status, missing.detail) == ("fail", "seals that were made are missing")


async def test_a_schema_that_is_behind_is_found(
    pool: AsyncConnectionPool, database: Database
) -> None:
    as_owner(database, "delete from schema_migrations where version = 2")
    [finding] = await found(pool, "schema")
    assert (finding.status, finding.fix) == ("fail", "qlp migrate")
    assert "0002_read_models" in finding.detail


async def test_an_index_that_was_never_finished_is_found(
    pool: AsyncConnectionPool, database: Database
) -> None:
    as_owner(
        database,
        "update pg_index set indisvalid = false "
        "where indexrelid = 'intent_states_by_tenant'::regclass",
    )
    [finding] = await found(pool, "indexes")
    assert finding.fix == "as the owner: reindex index concurrently intent_states_by_tenant"
    as_owner(database, finding.fix.removeprefix("as the owner: "))
    assert await found(pool, "indexes") == []


async def test_lost_vectors_are_found(pool: AsyncConnectionPool, database: Database) -> None:
    as_owner(database, "drop index intent_embeddings_1_binary")
    as_owner(database, "insert into embeddings_owed values (gen_random_uuid(), 'acme')")
    embeddings, owed, search = await examine_similarity(pool, "text-embedding-3-large@512")
    assert (embeddings.check, "1" in owed.detail) == ("embeddings", True)
    assert (embeddings.status, search.status) == ("warn", "warn")
    fix = "qlp embeddings migrate --to text-embedding-3-large --dimensions 512"
    assert embeddings.fix == fix
    assert (search.check, search.fix) == ("similarity", "qlp similarity index --kind binary")


async def test_a_follower_beyond_the_end_of_the_log_is_named(
    pool: AsyncConnectionPool, database: Database
) -> None:
    [none] = await found(pool, "followers")
    assert (none.status, "there are none yet" in none.detail) == ("ok", True)
    await Recorder(pool).submitted()
    await Projections(pool).run_until_caught_up()
    [well] = await found(pool, "followers")
    assert (well.status, "projection:usage_daily" in well.detail) == ("ok", True)
    as_owner(
        database,
        "update followers set positions[1] = 7 where follower = 'projection:usage_daily'"
        " and part = 3",
    )
    [beyond] = await found(pool, "followers")
    assert beyond.status == "fail"
    assert "projection:usage_daily has read lane 48 up to 7, but it ends at" in beyond.detail
    as_owner(database, "delete from followers where part = 3")
    assert [finding.status for finding in await found(pool, "followers")] == ["ok"]


async def test_what_waits_is_counted(
    pool: AsyncConnectionPool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_database, "RELAY_LAG_SECONDS", 0.0)
    await Recorder(pool).submitted()
    await RejectedMessages(pool).record(
        source="intents",
        tenant_id=None,
        reason="InvalidEnvelope",
        description="x",
        body=b"",
        message_id=None,
        traceparent=None,
    )
    as_owner(database, "update intent_states set expected_by = now() - interval '2 minutes'")
    [relay] = await found(pool, "relay")
    assert (relay.status, relay.detail.startswith("unpublished events: 1")) == ("fail", True)
    [stalled] = await found(pool, "stalled intents")
    assert (stalled.status, "progress: 1," in stalled.detail) == ("warn", True)
    assert (await found(pool, "stalled intents", after=300))[0].status == "ok"
    reads = IntentReads(pool)
    [claimed] = await reads.claim_stalled(datetime.now(UTC), timedelta(seconds=60), 10)
    assert (await found(pool, "stalled intents"))[0].status == "warn"
    await reads.release_waiting([claimed.intent_id], timedelta(seconds=60))
    [waiting] = await found(pool, "stalled intents")
    assert (waiting.status, waiting.detail) == ("ok", "none; 1 wait for their turn")
    [rejected] = await found(pool, "rejected messages")
    assert (rejected.status, rejected.detail) == ("warn", "1, 1 of them in the last day")


async def test_a_check_the_database_refuses_is_itself_a_finding(
    pool: AsyncConnectionPool, database: Database
) -> None:
    as_owner(database, "drop table rejected_messages")
    [finding] = await found(pool, "rejected messages")
    assert (finding.status, "could not be checked" in finding.detail) == ("fail", True)
    assert (await found(pool, "relay"))[0].status == "ok", "the others go on"


def settings_of(broker: BrokerProcess, **more: str) -> Settings:
    environment = {
        "DATABASE_URL": "postgresql://h/d",
        "ServiceBusConnection": broker.connection_string,
    }
    return Settings.from_environment(environment | more)


async def test_each_entity_of_the_bus_is_looked_at(servicebus: BrokerProcess) -> None:
    servicebus.reset()
    async with (
        ServiceBusClient.from_connection_string(servicebus.connection_string) as client,
        client.get_queue_sender("sandbox-jobs") as sender,
        client.get_queue_receiver("sandbox-jobs") as receiver,
    ):
        await sender.send_messages(ServiceBusMessage("x"))
        [message] = await receiver.receive_messages(max_wait_time=30)
        await receiver.dead_letter_message(message)
    findings = await examine_bus(settings_of(servicebus, QLP_SANDBOX_RESULTS_QUEUE="nowhere"))
    statuses = {finding.check: (finding.status, finding.detail) for finding in findings}
    assert statuses == {
        "Service Bus intents": ("ok", "reachable; no dead letters"),
        "Service Bus sandbox-jobs": ("warn", "reachable; dead letters: 1"),
        "Service Bus nowhere": ("fail", "there is no such entity"),
        "Service Bus intent-events/process-manager": ("ok", "reachable; no dead letters"),
    }
    servicebus.reset()


async def test_a_bus_that_is_away_or_refuses_is_one_finding(broker_process: BrokerFactory) -> None:
    broker = broker_process()
    right_key = settings_of(broker).service_bus_connection or ""
    wrong_key = right_key.replace(f"SharedAccessKey={broker.key}", f"SharedAccessKey={'0' * 64}")
    environment = {"DATABASE_URL": "postgresql://h/d", "ServiceBusConnection": wrong_key}
    [refused] = await examine_bus(Settings.from_environment(environment))
    assert refused.status == "fail"
    assert "correct the key" in refused.fix
    broker.kill()
    [away] = await examine_bus(settings_of(broker))
    assert (away.status, "ServiceBusConnection" in away.fix) == ("fail", True)


@pytest_asyncio.fixture(loop_scope="session")
async def sandbox() -> AsyncIterator[dict[str, object]]:
    """A sandbox host's health endpoint; the test says what it answers."""
    answer: dict[str, object] = {"status": 200, "body": {"runtime": "bubblewrap"}}

    async def health(_: web.Request) -> web.Response:
        assert isinstance(answer["status"], int)
        return web.json_response(answer["body"], status=answer["status"])

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    answer["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield answer
    await runner.cleanup()


async def test_the_sandbox_hosts_own_account_is_passed_on(sandbox: dict[str, object]) -> None:
    url = str(sandbox["url"])
    assert [f.detail for f in await examine_sandbox(url)] == ["ready, with bubblewrap"]
    sandbox.update(status=503, body={"problem": "no runtime is ready"})
    [ill] = await examine_sandbox(url)
    assert (ill.status, "no runtime is ready" in ill.detail) == ("fail", True)
    sandbox.update(status=200, body=["something else"])
    [something_else] = await examine_sandbox(url)
    assert (something_else.status, "not a sandbox host" in something_else.detail) == ("fail", True)
    [gone] = await examine_sandbox("http://127.0.0.1:1")
    assert (gone.status, "does not answer" in gone.detail) == ("fail", True)
    [unknown] = await examine_sandbox(None)
    assert (unknown.status, "QLP_SANDBOX_URL" in unknown.detail) == ("ok", True)


async def test_what_is_out_of_reach_does_not_hide_the_rest(servicebus: BrokerProcess) -> None:
    findings = await examine_environment(
        {
            "DATABASE_URL": "postgresql://127.0.0.1:1/none",
            "ServiceBusConnection": servicebus.connection_string,
        }
    )
    assert [finding.status for finding in findings if finding.check == "database"] == ["fail"]
    assert "ok" in [finding.status for finding in findings]
    assert worst(findings) == "fail"
    [only] = await examine_environment({})
    assert (only.check, "DATABASE_URL" in only.detail) == ("settings", True)


async def test_qlp_doctor_exits_with_0_if_no_check_fails_and_only_a_line_is_read(
    database: Database, servicebus: BrokerProcess
) -> None:
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "domain.operations", "doctor"),
        env={
            **{"PATH": os.environ["PATH"], "DATABASE_URL": database.url},
            "ServiceBusConnection": servicebus.connection_string,
        },
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)

    def head() -> bytes:
        try:
            return os.read(reader, 5)
        finally:
            os.close(reader)

    begun = await asyncio.to_thread(head)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert (begun.strip() in (b"ok", b"warn"), process.returncode, err) == (True, 0, b"")


async def test_qlp_doctor_exits_with_1_on_a_failure(
    database: Database, servicebus: BrokerProcess
) -> None:
    env = {"ServiceBusConnection": servicebus.connection_string}
    as_owner(database, "alter table events disable trigger events_immutable")
    said, listed = await asyncio.gather(
        qlp("doctor", url=database.url, **env), qlp("doctor", "--json", url=database.url, **env)
    )
    assert (said.code, listed.code) == (1, 1)
    assert "fail triggers" in said.out
    assert "→ as the owner: alter table events enable trigger events_immutable" in said.out
    failing = [each["check"] for each in listed.json["findings"] if each["status"] == "fail"]
    assert (listed.json["status"], failing) == ("fail", ["triggers"])
