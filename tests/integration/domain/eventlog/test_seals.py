"""Whoever changes the log, its owner included, is found out, and what was done is named."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import load_migrations, migrate
from domain.database.pool import open_pool
from domain.eventlog import seals
from domain.eventlog.checkpoints import CheckpointStore
from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent, RecordedEvent
from domain.eventlog.seals import Head, Sealer, SealReads, SealsMissing
from domain.operations.log_findings import Kind, LogFinding
from domain.operations.log_integrity import LogVerifier, Verification
from tests.support.postgres import (
    Database,
    Servers,
    copy_into_new_cluster,
    everything,
    old_and_new_cluster,
    which_is_ahead,
)

Tamper = Callable[[str], Awaitable[None]]


@pytest.fixture(autouse=True)
def small_seals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "PAGE", 4)


@pytest.fixture
def sealer(pool: AsyncConnectionPool) -> Sealer:
    return Sealer(CheckpointStore(pool))


@pytest.fixture
def verifier(pool: AsyncConnectionPool) -> LogVerifier:
    return LogVerifier(pool)


@pytest.fixture
async def sealed(event_log: EventLog, sealer: Sealer) -> list[RecordedEvent]:
    """Eleven events of five streams in three seals of 4, 4 and 3."""
    for number in range(5):
        for version in range(2):
            await append(event_log, f"s-{number}", version)
    await append(event_log, "s-0", 2)
    assert await sealer.run_until_caught_up() == 3
    return await everything(event_log)


@pytest.fixture
def tamper(database: Database) -> Tamper:
    """Runs statements as the superuser with all triggers disabled."""

    async def run(statements: str) -> None:
        async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
            await owner.execute("set session_replication_role = replica")
            await owner.execute(statements.encode())

    return run


async def append(log: EventLog, stream_id: str, version: int, data: Any = None) -> None:
    event = NewEvent(uuid4(), "Happened", 1, data or {"ü": f"{stream_id} {version}", "n": "\x00"})
    await log.append(stream_id, "acme", version, uuid4(), [event], {"traceparent": "00-a"})


def named(finding: LogFinding) -> tuple[Any, ...]:
    return (finding.kind, finding.seal, finding.event_id, finding.position, finding.stream_id,
            finding.version)  # fmt: skip


def name(kind: Kind, seal: int | None, event: RecordedEvent) -> tuple[Any, ...]:
    return (kind, seal, event.event_id, event.position, event.stream_id, event.version)


def kinds(result: Verification) -> list[tuple[Kind, int | None]]:
    return [(finding.kind, finding.seal) for finding in result.findings]


REDIGEST = """update events set digest = event_digest(event_id, command_id, recorded_at, version,
    schema_version, stream_id, type, tenant_id, metadata, data);"""

RECHAIN = """update events e set chain_digest = o.chain_digest from (
        select event_id, chain_digests(null, lane, lane_position, digest)
            over (partition by lane order by lane_position) as chain_digest
        from events
    ) o where o.event_id = e.event_id;"""


async def test_an_untouched_log_verifies(
    verifier: LogVerifier, sealed: list[RecordedEvent], event_log: EventLog
) -> None:
    await append(event_log, "late", 0)
    seen: list[tuple[int, int]] = []
    result = await verifier.verify(progress=lambda done, total: seen.append((done, total)))
    assert result == Verification(seals=3, events=11, unsealed=1)
    assert result.intact
    assert seen == [(4, 11), (8, 11), (11, 11)]
    assert (await verifier.verify(from_seal=3)).events == 3


async def test_the_digest_is_the_same_by_each_way_in(
    event_log: EventLog, database: Database, sealer: Sealer, verifier: LogVerifier
) -> None:
    await append(event_log, "alone", 0)
    several = [NewEvent(uuid4(), "Happened", 1, {"ü": n}) for n in range(3)]
    await event_log.append("several", "acme", 0, uuid4(), several, {"traceparent": "00-a"})
    await asyncio.gather(*(append(event_log, f"together-{n}", 0) for n in range(8)))
    async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
        await owner.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, metadata, data) values (gen_random_uuid(), 'by its owner', 1, 'T', 1,
            'acme', gen_random_uuid(), '{}', '{"a": 1 }')"""
        )
    await sealer.run_until_caught_up()
    assert await verifier.verify() == Verification(seals=4, events=13)


async def test_sealing_again_makes_no_seal_and_new_events_make_the_next(
    sealed: list[RecordedEvent], sealer: Sealer, event_log: EventLog, verifier: LogVerifier
) -> None:
    assert await sealer.run_until_caught_up() == 0
    await append(event_log, "late", 0)
    assert await sealer.run_until_caught_up() == 1
    assert await verifier.verify() == Verification(seals=4, events=12)


async def test_each_seal_is_logged_with_its_digest(
    event_log: EventLog, sealer: Sealer, pool: AsyncConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    await append(event_log, "s", 0)
    with caplog.at_level(logging.INFO, "qlp.seals"):
        await sealer.run_until_caught_up()
    [head] = await SealReads(pool).heads(10)
    [record] = [record for record in caplog.records if record.name == "qlp.seals"]
    assert record.getMessage() == f"seal seq=1 digest={head.digest} events=1"


async def test_an_event_above_the_horizon_is_sealed_only_when_nothing_can_come_before_it(
    event_log: EventLog, sealer: Sealer, database: Database, verifier: LogVerifier
) -> None:
    async with await psycopg.AsyncConnection.connect(database.admin_url) as slow:
        await slow.execute("select pg_current_xact_id()")
        await append(event_log, "s", 0)
        assert await sealer.run_until_caught_up() == 0
    assert await sealer.run_until_caught_up() == 1
    assert await verifier.verify() == Verification(seals=1, events=1)


async def test_a_seal_is_read_and_written_over_one_connection(
    event_log: EventLog, database: Database, verifier: LogVerifier
) -> None:
    """The next connection of the pool may lead to a database that was restored meanwhile."""
    await append(event_log, "s", 0)
    only_one = await open_pool(database.url, min_size=1, max_size=1, application_name="tests")
    assert await Sealer(CheckpointStore(only_one)).run_until_caught_up() == 1
    await only_one.close()
    assert await verifier.verify() == Verification(seals=1, events=1)


async def test_a_sealer_that_loses_its_connection_writes_nothing(
    event_log: EventLog, sealer: Sealer, database: Database, verifier: LogVerifier
) -> None:
    await append(event_log, "s", 0)
    waiting = b"""select pid from pg_stat_activity
        where wait_event_type = 'Lock' and query like 'insert into seals%'"""
    connect = psycopg.AsyncConnection.connect
    async with (
        await connect(database.admin_url) as owner,
        await connect(database.admin_url, autocommit=True) as watcher,
    ):
        await owner.execute("lock table seals in share mode")
        sealing = asyncio.create_task(sealer.run_until_caught_up())
        while not (rows := await (await watcher.execute(waiting)).fetchall()):
            assert not sealing.done()
        await watcher.execute("select pg_terminate_backend(%s)", rows[0])
        with pytest.raises(psycopg.OperationalError):
            await sealing
    assert await verifier.verify() == Verification(seals=0, events=0, unsealed=1)
    assert await sealer.run_until_caught_up() == 1


async def test_a_log_verifies_while_it_is_appended_to_and_sealed(
    event_log: EventLog, pool: AsyncConnectionPool, verifier: LogVerifier
) -> None:
    done = asyncio.Event()

    async def write(writer: int) -> None:
        for number in range(40):
            await append(event_log, f"s-{writer}-{number % 3}", number // 3)

    async def seal() -> None:
        sealers = [Sealer(CheckpointStore(pool)) for _ in range(2)]  # as in two processes
        while not done.is_set():
            await asyncio.gather(*(sealer.run_until_caught_up() for sealer in sealers))
            assert (await verifier.verify()).intact

    sealing = asyncio.create_task(seal())
    await asyncio.gather(*(write(number) for number in range(8)))
    done.set()
    await sealing
    await Sealer(CheckpointStore(pool)).run_until_caught_up()
    result = await verifier.verify()
    assert (result.events, result.unsealed, result.findings) == (320, 0, [])


CHANGES = [
    'data = \'{"ü": "forged"}\'',
    "data = (data::text || ' ')::json",
    "metadata = '{}'",
    "type = 'Other'",
    "tenant_id = 'evil'",
    "schema_version = 2",
    "command_id = gen_random_uuid()",
    "recorded_at = recorded_at + interval '1 microsecond'",
    "stream_id = 's-9'",
    "version = 7",
    "type = 'Happeneda', tenant_id = 'cme'",
]


@pytest.mark.parametrize("cover_up", ["", REDIGEST], ids=["digest left", "digest recomputed"])
async def test_changed_events_are_named_whatever_was_changed(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper, cover_up: str
) -> None:
    for victim, change in zip(sealed, CHANGES, strict=True):
        await tamper(f"update events set {change} where event_id = '{victim.event_id}'")
    await tamper(cover_up)
    findings = (await verifier.verify()).findings
    assert [named(finding) for finding in findings] == [
        name(Kind.EVENT_CHANGED, index // 4 + 1, victim) for index, victim in enumerate(sealed)
    ]
    assert findings[5].positions == (sealed[4].position, sealed[7].position)


async def test_a_changed_event_is_named_before_it_is_sealed(
    verifier: LogVerifier, event_log: EventLog, sealer: Sealer, tamper: Tamper
) -> None:
    await append(event_log, "s", 0)
    [victim] = await everything(event_log)
    await tamper("update events set data = '{}'")
    assert [named(f) for f in (await verifier.verify()).findings] == [
        name(Kind.EVENT_CHANGED, None, victim)
    ]
    await sealer.run_until_caught_up()  # seals what was recorded, not what was made of it
    assert [named(f) for f in (await verifier.verify()).findings] == [
        name(Kind.EVENT_CHANGED, 1, victim)
    ]


async def test_an_overwritten_digest_is_found(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper
) -> None:
    await tamper(f"update events set digest = '' where event_id = '{sealed[0].event_id}'")
    assert [named(f) for f in (await verifier.verify()).findings] == [
        name(Kind.EVENT_CHANGED, 1, sealed[0])
    ]


async def test_removed_events_are_named(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper
) -> None:
    gone = [0, 3, 4, 10]
    for index in gone:
        await tamper(f"delete from events where event_id = '{sealed[index].event_id}'")
    assert [named(finding) for finding in (await verifier.verify()).findings] == [
        name(Kind.EVENT_REMOVED, index // 4 + 1, sealed[index]) for index in gone
    ]


async def test_an_inserted_event_is_named(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper, event_log: EventLog
) -> None:
    await tamper(
        f"""insert into events (transaction_id, position, event_id, stream_id, version, type,
            schema_version, tenant_id, command_id, metadata, data, digest, lane, lane_position,
            chain_digest)
        overriding system value
        select transaction_id, position + 100, gen_random_uuid(), 'forged', 1, type,
            schema_version, tenant_id, command_id, metadata, data, '', lane_of('forged'), 1, ''
        from events where event_id = '{sealed[5].event_id}'; {REDIGEST}"""
    )
    [forged] = await event_log.read_stream("forged")
    [finding] = (await verifier.verify()).findings
    assert named(finding) == name(Kind.EVENT_INSERTED, 2, forged)


async def test_events_that_changed_places_are_named(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper
) -> None:
    pairs = [(0, 1), (4, 7), (2, 9)]  # neighbours, ends of one seal, across seals
    await tamper("alter table events alter position set generated by default")
    for one, other in [(sealed[a], sealed[b]) for a, b in pairs]:
        await tamper(
            f"""update events set position = {10**9} where event_id = '{one.event_id}';
            update events set position = {one.position}, transaction_id = '{one.transaction_id}'
                where event_id = '{other.event_id}';
            update events set position = {other.position},
                transaction_id = '{other.transaction_id}' where event_id = '{one.event_id}';"""
        )
    assert [named(finding) for finding in (await verifier.verify()).findings] == [
        name(Kind.EVENT_MOVED, index // 4 + 1, sealed[index])
        for index in sorted(index for pair in pairs for index in pair)
    ]


async def test_an_event_moved_before_others_by_its_transaction_id_is_named(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper
) -> None:
    first, moved = sealed[4], sealed[7]
    await tamper(
        f"update events set transaction_id = '{first.transaction_id}'"
        f" where event_id = '{moved.event_id}'"
    )
    [finding] = (await verifier.verify()).findings
    assert named(finding) == name(Kind.EVENT_MOVED, 2, moved)


SEAL_CHANGES = [
    "digests[2] = sha256('forged')",
    "positions[1] = 0",
    "stream_ids[3] = 'other'",
    "versions[3] = 9",
    "event_ids[3] = gen_random_uuid()",
    "digests = digests[1:3]",
    "digests[1] = null",
    "events = 3",
    "sealed_at = sealed_at + interval '1 second'",
    "sealed_at = 'infinity'",
    "to_position = to_position + 1",
    "from_position = from_position - 1",
    "digest = sha256('forged')",
    "previous_digest = sha256('forged')",
]


async def test_a_changed_seal_is_named_whatever_was_changed(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper
) -> None:
    await tamper("create table spare as select * from seals")
    for change in SEAL_CHANGES:
        await tamper(f"update seals set {change} where seq = 2")
        assert (Kind.SEAL_CHANGED, 2) in kinds(await verifier.verify()), change
        await tamper("delete from seals where seq = 2;"
                     "insert into seals select * from spare where seq = 2")  # fmt: skip
        assert (await verifier.verify()).intact


@pytest.mark.parametrize("seq", [1, 2])
async def test_a_removed_seal_is_named(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper, seq: int
) -> None:
    await tamper(f"delete from seals where seq = {seq}")
    result = await verifier.verify()
    assert kinds(result) == [(Kind.SEAL_REMOVED, seq)]
    assert (result.events, result.unsealed) == (7, 4)


async def test_a_seal_made_to_fit_a_change_no_longer_fits_the_next(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper, pool: AsyncConnectionPool
) -> None:
    await tamper(f"update events set data = '{{}}' where event_id = '{sealed[0].event_id}';"
                 f"{REDIGEST}")  # fmt: skip
    await forge(pool, tamper, only=1)
    assert kinds(await verifier.verify()) == [(Kind.SEAL_CHANGED, 2), (Kind.CHAIN_BROKEN, None)]
    await tamper(RECHAIN)
    assert kinds(await verifier.verify()) == [(Kind.SEAL_CHANGED, 2)]


async def test_a_rewrite_of_everything_by_the_owner_is_found_by_exported_heads(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper, pool: AsyncConnectionPool
) -> None:
    heads = await SealReads(pool).heads(10)
    assert (await verifier.verify(heads=heads)).heads == 3
    await tamper(f"update events set data = '{{}}' where version = 2; {REDIGEST}")
    await forge(pool, tamper)
    assert {kind for kind, _ in kinds(await verifier.verify())} == {Kind.CHAIN_BROKEN}
    await tamper(RECHAIN)
    assert (await verifier.verify()).intact, "the forgery is not good enough for this test"
    found = kinds(await verifier.verify(heads=heads))
    assert sorted(found) == [(Kind.HEAD_DIFFERS, seq) for seq in (1, 2, 3)]


async def test_seals_cut_off_at_the_end_are_found_by_exported_heads(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper, pool: AsyncConnectionPool
) -> None:
    heads = await SealReads(pool).heads(1)
    await tamper("delete from seals where seq = 3; delete from checkpoints")
    assert (await verifier.verify()).intact, "nothing is left that knows of it"
    assert kinds(await verifier.verify(heads=heads)) == [(Kind.SEAL_REMOVED, 3)]


@pytest.mark.parametrize("left", [2, 0])
async def test_seals_cut_off_at_the_end_are_missed_and_nothing_is_sealed_over_them(
    verifier: LogVerifier,
    sealed: list[RecordedEvent],
    tamper: Tamper,
    sealer: Sealer,
    event_log: EventLog,
    caplog: pytest.LogCaptureFixture,
    left: int,
) -> None:
    await tamper(f"delete from seals where seq > {left};"
                 f"update events set data = '{{}}' where event_id = '{sealed[10].event_id}';"
                 f"{REDIGEST}")  # fmt: skip
    finding, changed = (await verifier.verify()).findings
    assert (finding.kind, finding.seal) == (Kind.SEAL_REMOVED, left + 1)
    assert named(changed) == name(Kind.CHAIN_BROKEN, None, sealed[10])
    assert finding.detail == f"the log was once sealed up to position {sealed[10].position}"
    await append(event_log, "late", 0)
    with (
        caplog.at_level(logging.WARNING, "qlp.security"),
        pytest.raises(SealsMissing, match=f"seals after number {left} are gone"),
    ):
        await sealer.run_until_caught_up()
    assert f'"kind": "seals_missing", "last": {left}' in caplog.text
    await tamper(RECHAIN)
    assert kinds(await verifier.verify()) == [(Kind.SEAL_REMOVED, left + 1)]


INSERT = """insert into events (transaction_id, position, event_id, stream_id, version, type,
    schema_version, tenant_id, command_id, metadata, data, digest, lane, lane_position,
    chain_digest) overriding system value values"""
STRAYS = [
    ("(pg_current_xact_id()::text::bigint + 1000)::text::xid8", "default"),
    ("'9223372036854775807'", "default"),
    ("'18446744073709551615'", "default"),
    ("'0'", "-5"),
    ("'0'", "-9223372036854775808"),
    ("pg_current_xact_id()", "1000000000"),
    ("pg_current_xact_id()", "-7"),
]


@pytest.mark.parametrize(("transaction", "position"), STRAYS)
@pytest.mark.parametrize("is_sealed", [False, True], ids=["verified at once", "sealed before"])
async def test_an_event_where_none_can_be_is_named(
    verifier: LogVerifier, sealed: list[RecordedEvent], tamper: Tamper, event_log: EventLog,
    sealer: Sealer, transaction: str, position: str, is_sealed: bool,
) -> None:  # fmt: skip
    row = """gen_random_uuid(), 'forged', 1, 'T', 1, 'acme', gen_random_uuid(), '{}', '{}', '',
        lane_of('forged'), 1, ''"""
    await tamper(f"{INSERT} ({transaction}, {position}, {row}); {REDIGEST}")
    if is_sealed:
        await sealer.run_until_caught_up()
    [forged] = await event_log.read_stream("forged")
    findings = (await verifier.verify()).findings
    assert [(f.kind, f.event_id) for f in findings] == [(Kind.OUT_OF_RANGE, forged.event_id)]


async def test_an_event_that_cannot_be_sealed_yet_is_verified(
    verifier: LogVerifier, sealer: Sealer, event_log: EventLog, database: Database, tamper: Tamper
) -> None:
    async with await psycopg.AsyncConnection.connect(database.admin_url) as slow:
        await slow.execute("select pg_current_xact_id()")
        await append(event_log, "s", 0)
        assert await sealer.run_until_caught_up() == 0
        assert await verifier.verify() == Verification(unsealed=1)
        await tamper("update events set data = '{}'")
        assert kinds(await verifier.verify()) == [(Kind.EVENT_CHANGED, None)]


async def test_versions_that_are_missing_are_named(
    verifier: LogVerifier, event_log: EventLog, tamper: Tamper
) -> None:
    for stream in ("a", "b", "c", "d"):
        for version in range(5):
            await append(event_log, stream, version)
    await tamper("""delete from events where (stream_id, version) in (('a', 1), ('a', 2), ('b', 3));
                 update events set version = -1 where stream_id = 'c' and version = 1;"""
                 + REDIGEST)  # fmt: skip
    findings = (await verifier.verify()).findings
    assert [(f.kind, f.stream_id, f.version, f.detail[:17]) for f in findings] == [
        (Kind.VERSIONS_MISSING, "a", 3, "versions 1 to 2 o"),
        (Kind.VERSIONS_MISSING, "b", 4, "versions 3 to 3 o"),
        (Kind.OUT_OF_RANGE, "c", -1, "versions begin wi"),
        (Kind.VERSIONS_MISSING, "c", 2, "versions 0 to 1 o"),
        (Kind.EVENT_REMOVED, "b", 4, "before it, place "),
        (Kind.EVENT_REMOVED, "a", 3, "before it, place "),
    ]


async def forge(pool: AsyncConnectionPool, tamper: Tamper, only: int | None = None) -> None:
    """Make the seals fit what the log says now, as an owner with this code could."""
    now = {event.event_id: event.digest for event in await digests(pool)}
    previous = seals.GENESIS
    for seal in await SealReads(pool).after(0, 100):
        events = tuple(replace(e, digest=now[e.event_id]) for e in seal.events)
        digest = seals.seal_digest(seal.seq, previous, seal.sealed_at, events)
        column = ",".join(f"'\\x{event.digest.hex()}'" for event in events)
        if only in (None, seal.seq):
            await tamper(
                f"""update seals set digests = array[{column}]::bytea[],
                digest = '\\x{digest.hex()}', previous_digest = '\\x{previous.hex()}'
                where seq = {seal.seq}"""
            )
        previous = digest


async def digests(pool: AsyncConnectionPool) -> list[StoredEvent]:
    async with pool.connection() as connection:
        rows = await connection.execute(
            """select position, transaction_id, event_id, stream_id, version, type,
            schema_version, tenant_id, command_id, recorded_at, metadata::text, data::text, digest
            from events""",
            binary=True,
        )
        return [StoredEvent(*row) for row in await rows.fetchall()]


async def test_seals_cannot_be_changed_by_the_application_nor_by_their_owner(
    pool: AsyncConnectionPool, database: Database, sealed: list[RecordedEvent]
) -> None:
    for change in (b"update seals set events = 1", b"delete from seals", b"truncate seals"):
        async with pool.connection() as connection:
            with pytest.raises(pg.InsufficientPrivilege):
                await connection.execute(change)
        async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
            with pytest.raises(pg.RestrictViolation, match="immutable"):
                await owner.execute(change)


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@given(
    stream_id=text.filter(bool), type_=text.filter(bool), tenant=text,
    schema_version=st.integers(1, 2**15 - 1), content=st.text(max_size=30),
)  # fmt: skip
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_database_and_the_verifier_compute_the_same_digest(
    database: Database, stream_id: str, type_: str, tenant: str, schema_version: int, content: str
) -> None:
    with psycopg.connect(database.admin_url) as connection:
        rows = connection.execute(
            """with e as (select 1::bigint as position, 1::bigint, gen_random_uuid() as event_id,
                %s::text as stream_id, 3 as version, %s::text as type,
                %s::smallint as schema_version,
                %s::text as tenant_id, gen_random_uuid() as command_id,
                '2026-01-01'::timestamptz - random() * interval '3000 days' as recorded_at,
                %s::text as metadata, %s::text as data)
            select e.*, event_digest(event_id, command_id, recorded_at, version, schema_version,
                stream_id, type, tenant_id, metadata::json, data::json) from e""",
            [stream_id, type_, schema_version, tenant, '{ "a":1.0}', to_json(content)],
        ).fetchall()  # fmt: skip
    event = StoredEvent(*rows[0])
    assert event_digest(event) == event.digest


def to_json(content: str) -> str:
    return json.dumps({"content": content.encode("utf-8", "replace").decode()})


async def test_the_migration_gives_earlier_events_their_digests(
    servers: Servers, tmp_path: Path
) -> None:
    server = servers.start()
    server.create_database("qlp")
    url = server.admin_url_for("qlp")
    earlier = [m for m in load_migrations() if m.version < 4]
    for migration in earlier:
        (tmp_path / f"{migration.version:04}_{migration.name}.sql").write_bytes(migration.sql)
    await migrate(url, tmp_path)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, metadata, data) select gen_random_uuid(), 's-' || n, 1, 'T', 1, 'acme',
            gen_random_uuid(), '{}', '{"a": 1 }' from generate_series(1, 50) n"""
        )
    assert "0004_seals" in await migrate(url)
    pool = await open_pool(server.app_url("qlp"), min_size=1, max_size=4, application_name="tests")
    assert (await LogVerifier(pool).verify()).unsealed == 50
    await Sealer(CheckpointStore(pool)).run_until_caught_up()
    assert await LogVerifier(pool).verify() == Verification(seals=13, events=50)
    await pool.close()


@which_is_ahead
async def test_a_sealed_log_verifies_and_is_sealed_on_after_a_restore_into_another_cluster(
    servers: Servers, ahead: str
) -> None:
    old, new = await old_and_new_cluster(servers, ahead)
    pool = await open_pool(old.app_url("qlp"), min_size=1, max_size=4, application_name="tests")
    for number in range(6):
        await append(EventLog(pool), f"s-{number}", 0)
    await Sealer(CheckpointStore(pool)).run_until_caught_up()
    heads: list[Head] = await SealReads(pool).heads(10)
    await append(EventLog(pool), "unsealed", 0)
    await pool.close()
    copy_into_new_cluster(old, new)

    pool = await open_pool(new.app_url("qlp"), min_size=1, max_size=4, application_name="tests")
    result = await LogVerifier(pool).verify(heads=heads)
    assert (result.events, result.unsealed, result.findings) == (6, 1, [])
    for number in range(6):
        await append(EventLog(pool), f"s-{number}", 1)
    await Sealer(CheckpointStore(pool)).run_until_caught_up()
    result = await LogVerifier(pool).verify(heads=heads)
    assert (result.events, result.unsealed, result.findings) == (13, 0, [])
    order: list[UUID] = [
        event.event_id for seal in await SealReads(pool).after(0, 9) for event in seal.events
    ]
    log = await everything(EventLog(pool))
    assert order == [event.event_id for event in log]
    await pool.close()
