"""Whoever changes the log, its owner included, is found out, and what was done is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import load_migrations, migrate
from domain.database.pool import open_pool
from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent, RecordedEvent
from domain.operations.log_findings import Kind
from domain.operations.log_integrity import LogVerifier, UnknownSeal, Verification
from domain.projections.registry import Projections
from domain.sealing import sealer as module
from domain.sealing.anchors import Kept
from domain.sealing.keys import FileKey, PublicKey
from domain.sealing.range_seals import RangeSeal
from domain.sealing.reads import SealReads
from domain.sealing.sealer import Sealer
from tests.support.postgres import (
    Database,
    Servers,
    copy_into_new_cluster,
    everything,
    old_and_new_cluster,
    which_is_ahead,
)
from tests.support.sealing import new_key

Tamper = Callable[[str], Awaitable[None]]

#: Nine streams of one lane; the last one has no events.
LANE = 7
SAME = [f"s-{n}" for n in range(6000) if lane_of(f"s-{n}") == LANE][:9]


@pytest.fixture
def sealer(pool: AsyncConnectionPool, tmp_path: Path) -> Sealer:
    return Sealer(pool, FileKey(new_key(tmp_path)))


@pytest.fixture
def verifier(pool: AsyncConnectionPool) -> LogVerifier:
    return LogVerifier(pool)


@pytest.fixture
def tamper(database: Database) -> Tamper:
    """Runs statements as the superuser with all triggers disabled."""

    async def run(statements: str) -> None:
        async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
            await owner.execute("set session_replication_role = replica")
            await owner.execute(statements.encode())

    return run


async def append(log: EventLog, stream_id: str, version: int = 0) -> None:
    data = {"ü": f"{stream_id} {version}", "n": "\x00"}
    event = NewEvent(uuid4(), "Happened", 1, data)
    await log.append(stream_id, "acme", version, uuid4(), [event], {"traceparent": "00-a"})


def kinds(result: Verification) -> list[tuple[Kind, int | None]]:
    return [(finding.kind, finding.seal) for finding in result.findings]


REDIGEST = """update events set digest = event_digest(event_id, command_id, recorded_at, version,
    schema_version, stream_id, type, tenant_id, metadata, data);"""

RECHAIN = """update events e set chain_digest = o.chain_digest from (
        select event_id, chain_digests(null, lane, lane_position, digest)
            over (partition by lane order by lane_position) as chain_digest
        from events
    ) o where o.event_id = e.event_id;"""

#: Each is one change of an event (the fourth of eight of its lane) or of its place.
CHANGED = {
    "data": 'update events set data = \'{"ü": "forged"}\' where {victim}',
    "a blank in its data": "update events set data = (data::text || ' ')::json where {victim}",
    "metadata": "update events set metadata = '{}' where {victim}",
    "type": "update events set type = 'Other' where {victim}",
    "given to another tenant": "update events set tenant_id = 'evil' where {victim}",
    "schema version": "update events set schema_version = 2 where {victim}",
    "command": "update events set command_id = gen_random_uuid() where {victim}",
    "id": "update events set event_id = gen_random_uuid() where {victim}",
    "dated back": "update events set recorded_at = recorded_at - interval '1 us' where {victim}",
    "dated never": "update events set recorded_at = 'infinity' where {victim}",
    "stream of another lane": "update events set stream_id = 'elsewhere' where {victim}",
    "stream of its lane": f"update events set stream_id = '{SAME[8]}' where {{victim}}",
    "version": "update events set version = 7 where {victim}",
    "version below one": "update events set version = -1 where {victim}",
    "from one text into the next": (
        "update events set type = 'Happeneda', tenant_id = 'cme' where {victim}"
    ),
    "its digest": "update events set digest = sha256('') where {victim}",
    "its digest emptied": "update events set digest = '' where {victim}",
    "its chain": "update events set chain_digest = sha256('') where {victim}",
    "its chain emptied": "update events set chain_digest = '' where {victim}",
    "that of the one before": (
        "update events e set chain_digest = b.chain_digest from events b"
        " where e.{victim} and b.lane = 7 and b.lane_position = 3"
    ),
    "a column without a value": (
        "alter table events alter command_id drop not null;"
        " update events set command_id = null where {victim}"
    ),
    "its digest without a value": (
        "alter table events alter digest drop not null;"
        " update events set digest = null where {victim}"
    ),
    "its chain without a value": (
        "alter table events alter chain_digest drop not null;"
        " update events set chain_digest = null where {victim}"
    ),
    "removed": "delete from events where {victim}",
    "the first": "delete from events where lane = 7 and lane_position = 1",
    "the last": "delete from events where lane = 7 and lane_position = 8",
    "all of the lane": "delete from events where lane = 7",
    "all but one": "delete from events where lane = 7 and lane_position <> 4",
    "everything": "delete from events",
    "inserted at the end": (
        "insert into events (event_id, stream_id, version, type, schema_version, tenant_id,"
        " command_id, metadata, data, digest, lane, lane_position, chain_digest)"
        " select gen_random_uuid(), stream_id, 2, type, schema_version, tenant_id, command_id,"
        " metadata, data, digest, 7, 9, chain_digest from events where {victim}"
    ),
    "inserted in front": (
        "update events set lane_position = -lane_position - 1 where lane = 7;"
        " update events set lane_position = -lane_position where lane = 7;"
        " insert into events (event_id, stream_id, version, type, schema_version, tenant_id,"
        " command_id, metadata, data, digest, lane, lane_position, chain_digest)"
        " select gen_random_uuid(), stream_id, 2, type, schema_version, tenant_id, command_id,"
        " metadata, data, digest, 7, 1, chain_digest from events where {victim}"
    ),
    "exchanged with the next": (
        "update events set lane_position = 0 where {victim};"
        " update events set lane_position = 4 where lane = 7 and lane_position = 5;"
        " update events set lane_position = 5 where {victim}"
    ),
    "moved to another lane": "update events set lane = 8, lane_position = 1 where {victim}",
    "put where no place is": "update events set lane_position = 0 where {victim}",
    "put below all": f"update events set lane_position = {-(2**63)} where {{victim}}",
    "put far behind": f"update events set lane_position = {2**63 - 1} where {{victim}}",
    "put into no lane": "update events set lane = -1 - lane where {victim}",
    "put behind the last lane": "update events set lane = 256 where {victim}",
    "left without a place": (
        "alter table events drop constraint events_pkey, alter lane_position drop not null;"
        " update events set lane_position = null where {victim}"
    ),
    "put at the place of another": (
        "alter table events drop constraint events_pkey;"
        " update events set lane_position = 3 where {victim}"
    ),
    "all turned over": "update events set lane_position = -lane_position where lane = 7",
}

#: What is made whole again by computing digests anew, or the chain.
_OF_DIGESTS = {"its digest", "its digest emptied", "its digest without a value"}
_OF_CHAINS = {
    "its chain",
    "its chain emptied",
    "that of the one before",
    "its chain without a value",
}

#: What a chain made anew hides in events that no seal covers.
_HIDDEN = {
    *("data", "a blank in its data", "metadata", "type", "given to another tenant", "command"),
    *("schema version", "id", "dated back", "from one text into the next", "stream of its lane"),
    *("inserted at the end", "inserted in front", "exchanged with the next"),
}

RESTORE = """alter table events alter digest set not null, alter chain_digest set not null,
    alter command_id set not null, alter lane_position set not null;
alter table events drop constraint if exists events_pkey;
alter table events add primary key (lane, lane_position);"""


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "not sealed"])
async def test_each_change_is_found_whatever_is_made_to_fit(
    event_log: EventLog,
    sealer: Sealer,
    pool: AsyncConnectionPool,
    verifier: LogVerifier,
    tamper: Tamper,
    is_sealed: bool,
) -> None:
    for stream_id in (*SAME[:8], "another"):
        await append(event_log, stream_id)
    await Projections(pool).run_until_caught_up()  # somebody has read it
    if is_sealed:
        await sealer.run_until_caught_up()
    victim = f"event_id = '{(await everything(event_log))[3].event_id}'"
    await tamper("create table spare as select * from events; grant select on spare to qlp_app")
    wrong = []
    for what, change in CHANGED.items():
        for cover_up in ("", REDIGEST, REDIGEST + RECHAIN):
            if cover_up and ("without a " in what or what in _OF_DIGESTS):
                continue
            if cover_up.endswith(RECHAIN) and what in _OF_CHAINS:
                continue
            await tamper(f"{change.replace('{victim}', victim)};{cover_up}")
            covered = is_sealed and what != "inserted at the end"
            hidden = cover_up.endswith(RECHAIN) and not covered and what in _HIDDEN
            result = await verifier.verify()
            if result.intact != hidden:
                wrong.append((what, cover_up[-20:], result.findings))
            await tamper(
                f"truncate events; insert into events overriding system value select * from spare;"
                f"{RESTORE}"
            )
            assert (await verifier.verify()).intact
    assert wrong == []


NAMED = {
    "data": (Kind.EVENT_CHANGED, 4),
    "given to another tenant": (Kind.EVENT_CHANGED, 4),
    "dated back": (Kind.EVENT_CHANGED, 4),
    "its digest": (Kind.EVENT_CHANGED, 4),
    "its chain": (Kind.CHAIN_BROKEN, 4),
    "removed": (Kind.EVENT_REMOVED, 4),
    "the first": (Kind.EVENT_REMOVED, 1),
    "the last": (Kind.EVENT_REMOVED, 8),
    "all of the lane": (Kind.EVENT_REMOVED, 1),
    "all but one": (Kind.EVENT_REMOVED, 1),
    "inserted at the end": (Kind.EVENT_CHANGED, 9),
    "moved to another lane": (Kind.EVENT_REMOVED, 4),
    "stream of another lane": (Kind.EVENT_MOVED, 4),
    "put where no place is": (Kind.OUT_OF_RANGE, 0),
    "put into no lane": (Kind.OUT_OF_RANGE, 4),
    "left without a place": (Kind.OUT_OF_RANGE, None),
    "put at the place of another": (Kind.EVENT_INSERTED, 3),
    "version": (Kind.EVENT_CHANGED, 4),
}


@pytest.mark.parametrize("what", NAMED)
async def test_what_was_done_is_named_with_its_place(
    event_log: EventLog, sealer: Sealer, verifier: LogVerifier, tamper: Tamper, what: str
) -> None:
    for number, stream_id in enumerate(SAME[:8]):
        await append(event_log, stream_id)
        if number in (1, 5):
            await sealer.run_until_caught_up()
    await sealer.run_until_caught_up()
    assert await verifier.verify() == Verification(seals=3, events=8)
    victim = f"event_id = '{(await everything(event_log))[3].event_id}'"
    await tamper(CHANGED[what].replace("{victim}", victim))
    found = (await verifier.verify()).findings
    kind, place = NAMED[what]
    assert (kind, place) in [(finding.kind, finding.lane_position) for finding in found]
    if kind is Kind.EVENT_CHANGED:
        [finding] = [each for each in found if each.kind is kind]
        assert (finding.seal, finding.lane) == (2 if place == 4 else None, LANE)


async def test_a_lane_that_was_written_anew_is_named_with_its_places(
    event_log: EventLog, sealer: Sealer, verifier: LogVerifier, tamper: Tamper
) -> None:
    for number, stream_id in enumerate(SAME[:8]):
        await append(event_log, stream_id)
        if number in (1, 5):
            await sealer.run_until_caught_up()
    victim = (await everything(event_log))[3]
    await tamper(
        f"update events set data = '{{}}' where event_id = '{victim.event_id}';{REDIGEST}{RECHAIN}"
    )
    [finding] = (await verifier.verify()).findings
    assert (finding.kind, finding.seal, finding.lane) == (Kind.LANE_REWRITTEN, 2, LANE)
    assert finding.detail == "places 3 to 6 are not what seal 2 covers"


async def test_an_untouched_log_verifies(
    event_log: EventLog, sealer: Sealer, verifier: LogVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 4)
    for number in range(11):
        await append(event_log, f"s-{number % 5}", number // 5)
    assert await sealer.run_until_caught_up() == 3
    assert await sealer.run_until_caught_up() == 0
    await append(event_log, "late")
    seen: list[tuple[int, int]] = []
    result = await verifier.verify(progress=lambda done, total: seen.append((done, total)))
    assert result == Verification(seals=3, events=11, unsealed=1)
    assert seen[-1] == (12, 12)
    [by] = result.signed_by.values()
    assert (by.first, by.last, by.seals) == (1, 3, 3)
    assert result.last is not None
    assert (result.last.number, result.last.events) == (3, 11)
    since = await verifier.verify(since=2)
    assert (since.findings, since.seals, since.events, since.unsealed) == ([], 1, 3, 1)
    for nothing in (9, 4):
        with pytest.raises(UnknownSeal):
            await verifier.verify(since=nothing)


@pytest.mark.parametrize("what", ["data", "removed", "the last", "its chain", "all of the lane"])
async def test_from_a_seal_on_what_follows_it_is_verified(
    event_log: EventLog, sealer: Sealer, verifier: LogVerifier, tamper: Tamper, what: str
) -> None:
    for number, stream_id in enumerate(SAME[:8]):
        await append(event_log, stream_id)
        if number == 2:
            await sealer.run_until_caught_up()
    await sealer.run_until_caught_up()
    victim = f"event_id = '{(await everything(event_log))[3].event_id}'"
    await tamper(CHANGED[what].replace("{victim}", victim))
    assert not (await verifier.verify(since=1)).intact
    await tamper("delete from events where lane = 7 and lane_position = 2")
    before = len((await verifier.verify()).findings)
    assert len((await verifier.verify(since=1)).findings) < before or what == "all of the lane"


SEALS_CHANGED = {
    "no seal any more": "update seals set statement = 'x' where seq = 2",
    "another one's text": (
        "update seals set statement = (select statement from seals where seq = 1) where seq = 2"
    ),
    "without its signature": (
        "update seals set statement = regexp_replace(statement, '[^.]*$', '') where seq = 2"
    ),
    "another signature": (
        "update seals set statement = regexp_replace(statement, '[^.]*$', "
        "(select split_part(statement, '.', 3) from seals where seq = 1)) where seq = 2"
    ),
    "removed": "delete from seals where seq = 2",
    "the first removed": "delete from seals where seq = 1",
    "the last removed": "delete from seals where seq = 3",
    "all removed": "delete from seals",
    "how many there were": "update seal_progress set seq = 4",
    "how many there were, fewer": "update seal_progress set seq = 1",
    "a head of a seal to come": "insert into seal_heads values (7, 999, 1000000, sha256(''))",
    "a head of no seal": "insert into seal_heads values (9, 0, 3, sha256(''))",
    "how many there were, removed": "delete from seal_progress",
    "a head": "update seal_heads set chain_digest = sha256('') where seq = 2",
    "a head's place": "update seal_heads set lane_position = lane_position - 1 where seq = 2",
    "a head removed": "delete from seal_heads where seq = 2",
    "all heads removed": "delete from seal_heads",
    "a head more": "insert into seal_heads values (8, 2, 1, sha256(''))",
    "a head of another lane": "update seal_heads set lane = 8 where seq = 2",
    "a key removed": "delete from seal_keys",
    "another key": "update seal_keys set public_key = replace(public_key, 'A', 'B')",
}


@pytest.mark.parametrize("what", SEALS_CHANGED)
async def test_a_change_of_seals_is_found(
    event_log: EventLog, sealer: Sealer, verifier: LogVerifier, tamper: Tamper, what: str
) -> None:
    for number, stream_id in enumerate(SAME[:6]):
        await append(event_log, stream_id)
        if number % 2:
            await sealer.run_until_caught_up()
    assert await verifier.verify() == Verification(seals=3, events=6)
    await tamper(SEALS_CHANGED[what])
    result = await verifier.verify()
    assert result.findings
    assert {finding.kind for finding in result.findings} <= {
        *(Kind.SEAL_CHANGED, Kind.SEAL_REMOVED, Kind.SEAL_UNTRUSTED),
        *(Kind.LANE_REWRITTEN, Kind.EVENT_REMOVED),
    }


#: Rows that nothing of ours writes, once nothing refuses them any more.
_ODD_ROWS = {
    "a part of followers that does not exist": (
        "alter table followers drop constraint followers_part_check;"
        " insert into followers values ('relay', 40, array_fill(9::bigint, array[16]))"
    ),
    "positions of followers that are none": (
        "alter table followers drop constraint followers_positions_check;"
        " insert into followers values ('relay', 3, array[null, -5]::bigint[]),"
        " ('other', 3, array[[1, 2], [3, 4]]::bigint[])"
    ),
    "a head of a lane that does not exist": (
        "alter table seal_heads drop constraint seal_heads_lane_check;"
        " insert into seal_heads values (300, 2, 1, sha256(''))"
    ),
    "a head of no lane": (
        "alter table seal_heads drop constraint seal_heads_pkey;"
        " alter table seal_heads alter lane drop not null, alter seq drop not null;"
        " insert into seal_heads values (null, 2, 1, sha256('')), (3, null, 1, sha256(''))"
    ),
    "a head without place or digest": (
        "alter table seal_heads alter lane_position drop not null;"
        " alter table seal_heads alter chain_digest drop not null;"
        " insert into seal_heads values (4, 2, null, sha256('')), (5, 2, 1, null)"
    ),
    "a range seal in another form": (
        "insert into range_seals values (1, '1', 1, '1', 1, 1, array[[1, 2]]::bigint[],"
        " array[[gen_random_uuid(), gen_random_uuid()]], array[['s', 't']], array[[1, 2]],"
        " array[[sha256('a'), sha256('b')]], now(), sha256('x'), sha256('y'))"
    ),
}


@pytest.mark.parametrize("what", _ODD_ROWS)
async def test_rows_that_nothing_writes_end_no_verification(
    event_log: EventLog, sealer: Sealer, verifier: LogVerifier, tamper: Tamper, what: str
) -> None:
    for stream_id in SAME[:3]:
        await append(event_log, stream_id)
        await sealer.run_until_caught_up()
    await tamper(_ODD_ROWS[what])
    result = await verifier.verify()
    assert result.findings or "part of followers" in what
    await verifier.verify(since=1)


async def rewritten(
    pool: AsyncConnectionPool, tamper: Tamper, log: EventLog, keys: FileKey | None
) -> None:
    """Change an event, and make everything fit again, as an owner with this code could."""
    victim = (await everything(log))[0]
    await tamper(
        f"""update events set data = '{{}}' where event_id = '{victim.event_id}';
        {REDIGEST}{RECHAIN} truncate seals, seal_heads, seal_keys, seal_anchors;
        update seal_progress set seq = 0"""
    )
    await Sealer(pool, keys).run_until_caught_up()


async def test_a_rewrite_of_everything_is_found_by_whoever_knows_the_key_or_kept_a_seal(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    verifier: LogVerifier,
    tamper: Tamper,
    tmp_path: Path,
) -> None:
    mine, theirs = new_key(tmp_path, "mine"), new_key(tmp_path, "theirs")
    for stream_id in SAME[:3]:
        await append(event_log, stream_id)
        await Sealer(pool, FileKey(mine)).run_until_caught_up()
    trusted = [PublicKey.parse(mine.read_text())]
    kept = [Kept(s.number, s.digest) async for s in seals(pool)]
    assert (await verifier.verify(kept=kept, trusted=trusted)).intact
    for keys in (FileKey(theirs), None):
        await rewritten(pool, tamper, event_log, keys)
        assert (await verifier.verify()).intact, "the forgery is not good enough for this test"
        [untrusted] = (await verifier.verify(trusted=trusted)).findings
        assert untrusted.kind is Kind.SEAL_UNTRUSTED
        found = kinds(await verifier.verify(kept=kept))
        assert found == [
            *((Kind.ANCHOR_DIFFERS, 1), (Kind.SEAL_REMOVED, 2), (Kind.SEAL_REMOVED, 3))
        ]
    await rewritten(pool, tamper, event_log, FileKey(mine))
    assert (await verifier.verify(trusted=trusted)).intact, "who can sign needs to be found"
    assert kinds(await verifier.verify(kept=kept))[0] == (Kind.ANCHOR_DIFFERS, 1)
    fewer = await verifier.verify(kept=[kept[0], Kept(1, kept[1].digest)])
    assert kinds(fewer) == [(Kind.ANCHOR_DIFFERS, 1)] * 2


async def seals(pool: AsyncConnectionPool) -> Any:
    async for stored in SealReads(pool).after(0):
        assert stored.seal is not None
        yield stored.seal


async def test_a_log_verifies_while_it_is_appended_to_and_sealed(
    event_log: EventLog, pool: AsyncConnectionPool, verifier: LogVerifier
) -> None:
    done = asyncio.Event()

    async def write(writer: int) -> None:
        for number in range(40):
            await append(event_log, f"s-{writer}-{number % 3}", number // 3)

    async def seal() -> None:
        sealers = [Sealer(pool) for _ in range(2)]  # as in two processes
        while not done.is_set():
            await asyncio.gather(*(sealer.run_until_caught_up() for sealer in sealers))
            assert (await verifier.verify()).intact

    sealing = asyncio.create_task(seal())
    await asyncio.gather(*(write(number) for number in range(8)))
    done.set()
    await sealing
    await Sealer(pool).run_until_caught_up()
    result = await verifier.verify()
    assert (result.events, result.unsealed, result.findings) == (320, 0, [])


async def test_the_digest_is_the_same_by_each_way_in(
    event_log: EventLog, database: Database, sealer: Sealer, verifier: LogVerifier
) -> None:
    await append(event_log, "alone")
    several = [NewEvent(uuid4(), "Happened", 1, {"ü": n}) for n in range(3)]
    await event_log.append("several", "acme", 0, uuid4(), several, {"traceparent": "00-a"})
    await asyncio.gather(*(append(event_log, f"together-{n}") for n in range(8)))
    async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
        await owner.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, metadata, data) values (gen_random_uuid(), 'by its owner', 1, 'T', 1,
            'acme', gen_random_uuid(), '{}', '{"a": 1 }')"""
        )
    await sealer.run_until_caught_up()
    assert await verifier.verify() == Verification(seals=1, events=13)


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
    assert sorted((f.kind, f.stream_id, f.version, f.detail[:17]) for f in findings) == [
        (Kind.CHAIN_BROKEN, "c", -1, "the chain of lane"),
        (Kind.EVENT_REMOVED, "a", 3, "before it, places"),
        (Kind.EVENT_REMOVED, "b", 4, "before it, place "),
        (Kind.VERSIONS_MISSING, "c", 2, "versions 0 to 1 o"),
    ]


async def test_seals_cannot_be_changed_by_the_application_nor_by_their_owner(
    pool: AsyncConnectionPool, database: Database, event_log: EventLog, sealer: Sealer
) -> None:
    await append(event_log, "s")
    await sealer.run_until_caught_up()
    for table in ("seals", "seal_heads", "seal_keys", "range_seals"):
        for change in (f"delete from {table}", f"truncate {table}"):
            async with pool.connection() as connection:
                with pytest.raises(pg.InsufficientPrivilege):
                    await connection.execute(change.encode())
            async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
                if table == "range_seals" and change.startswith("delete"):
                    continue  # there is none
                with pytest.raises(pg.RestrictViolation, match="immutable"):
                    await owner.execute(change.encode())


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
            """with e as (select gen_random_uuid() as event_id,
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


@which_is_ahead
async def test_a_sealed_log_verifies_and_is_sealed_on_after_a_restore_into_another_cluster(
    servers: Servers, ahead: str
) -> None:
    old, new = await old_and_new_cluster(servers, ahead)
    pool = await open_pool(old.app_url("qlp"), min_size=1, max_size=4, application_name="tests")
    for number in range(6):
        await append(EventLog(pool), f"s-{number}")
    await Sealer(pool).run_until_caught_up()
    kept = [Kept(seal.number, seal.digest) for seal in await SealReads(pool).newest(10)]
    await append(EventLog(pool), "unsealed")
    await pool.close()
    copy_into_new_cluster(old, new)

    pool = await open_pool(new.app_url("qlp"), min_size=1, max_size=4, application_name="tests")
    result = await LogVerifier(pool).verify(kept=kept)
    assert (result.events, result.unsealed, result.findings) == (6, 1, [])
    for number in range(6):
        await append(EventLog(pool), f"s-{number}", 1)
    assert await Sealer(pool).run_until_caught_up() == 1
    result = await LogVerifier(pool).verify(kept=kept)
    assert (result.events, result.unsealed, result.findings) == (13, 0, [])
    await pool.close()


#: As the release before migration 0022 made them.
_RANGE_SEAL = """insert into seals (seq, from_transaction_id, from_position, to_transaction_id,
    to_position, events, positions, event_ids, stream_ids, versions, digests, sealed_at,
    previous_digest, digest)
select %(seq)s, min(transaction_id::text)::xid8, min(position), max(transaction_id::text)::xid8,
    max(position), count(*), array_agg(position order by position),
    array_agg(event_id order by position), array_agg(stream_id order by position),
    array_agg(version order by position), array_agg(digest order by position), %(at)s,
    %(previous)s, %(digest)s
from events where position > %(after)s and position <= %(to)s"""


async def test_seals_of_before_are_kept_verified_and_continued(
    servers: Servers, tmp_path: Path
) -> None:
    server = servers.start()
    server.create_database("qlp")
    url = server.admin_url_for("qlp")
    for migration in load_migrations()[:21]:
        (tmp_path / f"{migration.version:04}_{migration.name}.sql").write_bytes(migration.sql)
    await migrate(url, tmp_path)
    pool = await open_pool(server.app_url("qlp"), min_size=1, max_size=4, application_name="tests")
    try:
        for stream_id in SAME[:6]:
            await append(EventLog(pool), stream_id)
        events = await everything(EventLog(pool))
        digests = [await range_sealed(url, seq, events) for seq in (1, 2)]
        assert "0022_signed_seals" in await migrate(url)
        verifier = LogVerifier(pool)
        assert await verifier.verify() == Verification(seals=2, unsealed=6)
        assert await Sealer(pool).run_until_caught_up() == 1
        await append(EventLog(pool), SAME[6])
        assert await Sealer(pool).run_until_caught_up() == 1
        kept = [Kept(seq, digest) for seq, digest in enumerate(digests, 1)]
        assert (await verifier.verify(kept=kept)).findings == []
        first = await anext(seals(pool))
        assert (first.number, first.previous) == (3, digests[1])
        with psycopg.connect(url) as owner:
            owner.execute("set session_replication_role = replica")
            owner.execute("update events set data = '{}' where position = 2")
            owner.execute(REDIGEST + RECHAIN)
            owner.execute("update range_seals set events = 2 where seq = 2")
        found = (await verifier.verify(kept=[Kept(1, b"x" * 32)])).findings
    finally:
        await pool.close()
    assert [(f.kind, f.seal) for f in found] == [
        *((Kind.ANCHOR_DIFFERS, 1), (Kind.EVENT_CHANGED, 1), (Kind.SEAL_CHANGED, 2)),
        (Kind.LANE_REWRITTEN, 3),
    ]


async def range_sealed(url: str, seq: int, events: list[RecordedEvent]) -> bytes:
    """Seal three events as the release before migration 0022 did; the seal's digest."""
    mine = events[seq * 3 - 3 : seq * 3]
    with psycopg.connect(url) as owner:
        at, *before = owner.execute(
            "select now(), (select digest from seals order by seq desc limit 1)"
        ).fetchall()[0]
        stored: dict[Any, Any] = dict(
            owner.execute("select event_id, digest from events").fetchall()
        )
        previous = before[0] or bytes(32)
        seal = RangeSeal(
            *(seq, at, previous, b"", len(mine)),
            *([*range(seq * 3 - 2, seq * 3 + 1)], [event.event_id for event in mine]),
            *([event.stream_id for event in mine], [event.version for event in mine]),
            [stored[event.event_id] for event in mine],
        )
        digest = seal.computed()
        params = {"seq": seq, "at": at, "previous": previous, "digest": digest}
        owner.execute(_RANGE_SEAL, {**params, "after": seq * 3 - 3, "to": seq * 3})
    return digest
