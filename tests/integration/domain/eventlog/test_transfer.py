"""An export carries everything, an import keeps everything, and neither believes a changed file."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys
from domain.application.repository import IntentRepository
from domain.database.outages import outage_of
from domain.database.pool import open_pool
from domain.errors import OperationError
from domain.eventlog import staging
from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.heads import Heads
from domain.eventlog.intent_streams import UnreadableStream
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, NewEvent, RecordedEvent
from domain.eventlog.scan import Filter
from domain.eventlog.staging import ImportRefused, Staging, copy_events
from domain.eventlog.transfer import ExportWriter, InvalidExport, read_export
from domain.intents.events import IntentSubmitted, SandboxRunFinished
from domain.operations.log_integrity import LogVerifier
from domain.operations.projections import verify
from domain.operations.replay import replay
from domain.operations.transfer import (
    Exported,
    Imported,
    end_import,
    export_events,
    import_events,
)
from domain.projections.following.parked import parked_streams
from domain.projections.intents import IntentReads, IntentRow, upsert
from domain.projections.registry import Projections
from domain.sealing.sealer import Sealer
from tests.support.intents.recorder import Recorder
from tests.support.intents.specification import INTENT, submitted
from tests.support.postgres import Database, everything
from tests.support.qlp import qlp

EVERYTHING = Filter()


@pytest.fixture
async def target_pool(target: Database) -> AsyncIterator[AsyncConnectionPool]:
    opened = await open_pool(target.url, min_size=1, max_size=8, application_name="tests")
    yield opened
    await opened.close()


@pytest.fixture
async def intents(pool: AsyncConnectionPool) -> list[UUID]:
    """Intents of two tenants, some not ended, their events interleaved."""
    acme, other = Recorder(pool), Recorder(pool, "other")
    return list(
        await asyncio.gather(
            acme.finished(),
            acme.finished(verdict="exited", stderr="böse \x00"),
            acme.cancelled(),
            acme.running(),
            other.finished(),
            other.submitted(),
        )
    )


async def exported(
    pool: AsyncConnectionPool, path: Path, wanted: Filter = EVERYTHING,
    after: Heads = Heads.start(),  # noqa: B008 immutable
) -> Exported:  # fmt: skip
    with path.open("wb") as file:
        return await export_events(pool, wanted, after, file.write)


@pytest.fixture
async def exported_file(pool: AsyncConnectionPool, intents: list[UUID], tmp_path: Path) -> Path:
    """All events of those intents."""
    await exported(pool, path := tmp_path / "export")
    return path


async def imported(database: Database, path: Path) -> Imported:
    with path.open("rb") as file:
        return await import_events(database.admin_url, file, confirm=lambda _: True)


async def whole(pool: AsyncConnectionPool) -> list[RecordedEvent]:
    return await everything(EventLog(pool))


def told(events: list[RecordedEvent]) -> list[tuple[Any, ...]]:
    """Events stream by stream, without where they lie in one log."""
    return sorted(
        (e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.tenant_id, e.command_id,
         e.recorded_at, e.metadata_json, e.data_json)
        for e in events
    )  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def test_an_import_keeps_ids_versions_times_and_every_byte(
    pool: AsyncConnectionPool,
    intents: list[UUID],
    target: Database,
    target_pool: AsyncConnectionPool,
    tmp_path: Path,
) -> None:
    odd = b'{"a" : 1.0, "a": 2,\n "big": 123456789012345678901234567890, "u": "\\u00e4"}'
    await EventLog(pool).append("odd", "acme", 0, uuid4(), [NewEvent(uuid4(), "Odd", 7, odd)], {})
    done = await exported(pool, first := tmp_path / "first")
    result = await imported(target, first)
    assert (result.staged.new, result.staged.streams) == (done.events, 7)
    assert told(await whole(target_pool)) == told(await whole(pool))
    await exported(target_pool, second := tmp_path / "second")
    once, twice = (sorted(path.read_bytes().splitlines()[:-1]) for path in (first, second))
    assert once == twice
    await Sealer(target_pool).run_until_caught_up()
    assert (await LogVerifier(target_pool).verify()).intact


async def test_lines_are_cloudevents_and_the_trailer_counts_them(
    exported_file: Path, pool: AsyncConnectionPool, intents: list[UUID]
) -> None:
    [*events, last] = lines(exported_file)
    first = next(event for event in events if event["subject"] == f"intent-{intents[0]}")
    assert first["specversion"] == "1.0"
    assert first["type"] == "qlp.IntentSubmitted"
    assert (first["streamversion"], first["schemaversion"]) == (1, 1)
    assert first["data"]["content"]["text"] == "print 1"
    assert all(key.isalnum() and key.islower() for key in first), "not a CloudEvents attribute"
    assert all(isinstance(v, str | int) for key, v in first.items() if key != "data")
    assert last["trailer"]["events"] == len(events) == len(await whole(pool))


async def test_importing_twice_changes_nothing(
    exported_file: Path, target: Database, target_pool: AsyncConnectionPool
) -> None:
    await imported(target, exported_file)
    before = await whole(target_pool)
    again = await imported(target, exported_file)
    assert (again.staged.new, again.staged.known) == (0, len(before))
    assert await whole(target_pool) == before


async def test_the_read_model_is_brought_along_and_unfinished_intents_are_counted(
    exported_file: Path, intents: list[UUID], target: Database, target_pool: AsyncConnectionPool
) -> None:
    result = await imported(target, exported_file)
    assert (result.rows, result.unfinished) == (6, 2)
    repository = IntentRepository(EventLog(target_pool))
    for intent_id in intents:
        assert (await replay(repository, IntentReads(target_pool), intent_id)).matches
    assert await ApiKeys(target_pool).tenant_exists("other")


async def test_an_imported_intent_is_carried_on(
    exported_file: Path, intents: list[UUID], target: Database, target_pool: AsyncConnectionPool
) -> None:
    await imported(target, exported_file)
    log = EventLog(target_pool)
    stream = f"intent-{intents[3]}"
    version = len(await log.read_stream(stream))
    await log.append(stream, "acme", version, uuid4(), [NewEvent(uuid4(), "Next", 1, {})], {})
    assert (await whole(target_pool))[-1].version == version + 1


async def test_an_export_continues_where_the_last_one_ended_and_so_does_the_import(
    pool: AsyncConnectionPool,
    intents: list[UUID],
    target: Database,
    target_pool: AsyncConnectionPool,
    tmp_path: Path,
) -> None:
    done = await exported(pool, first := tmp_path / "first")
    stream, version = f"intent-{intents[3]}", 3
    event = NewEvent(uuid4(), "Later", 1, {})
    await EventLog(pool).append(stream, "acme", version, uuid4(), [event], {})
    await exported(pool, second := tmp_path / "second", after=done.end)
    assert [line["type"] for line in lines(second)[:-1]] == ["qlp.Later"]
    with pytest.raises(ImportRefused, match=r"needs version 1 of .* begins with 4"):
        await imported(target, second)
    await imported(target, first)
    assert (await imported(target, second)).staged.new == 1
    assert told(await whole(target_pool)) == told(await whole(pool))


async def test_events_are_chosen_by_tenant_and_type(
    pool: AsyncConnectionPool, intents: list[UUID], target: Database, tmp_path: Path
) -> None:
    await exported(pool, path := tmp_path / "tenant", Filter("other"))
    assert {line["tenantid"] for line in lines(path)[:-1]} == {"other"}
    assert (await imported(target, path)).staged.streams == 2
    await exported(pool, path := tmp_path / "type", Filter(types=("*RunF*", "IntentCancelle?")))
    chosen = {line["type"] for line in lines(path)[:-1]}
    assert chosen == {"qlp.SandboxRunFinished", "qlp.IntentCancelled"}
    with pytest.raises(ImportRefused, match="export whole streams"):
        await imported(target, path)
    assert (await exported(pool, tmp_path / "none", Filter(types=("Intent%",)))).events == 0


async def test_events_of_the_future_are_exported_imported_and_counted(
    pool: AsyncConnectionPool,
    intents: list[UUID],
    target: Database,
    target_pool: AsyncConnectionPool,
    tmp_path: Path,
) -> None:
    stream, data = f"intent-{intents[0]}", {"new": {"field": [1, 2.5, None]}}
    future = [NewEvent(uuid4(), "IntentAudited", 1, data),
              NewEvent(uuid4(), SandboxRunFinished.type, 9, data)]  # fmt: skip
    await EventLog(pool).append(stream, "acme", 5, uuid4(), future, {})
    path = tmp_path / "export"
    assert (await exported(pool, path)).unknown == 2
    result = await imported(target, path)
    assert (result.unknown, result.parked) == (2, 1)
    [*_, audited, finished] = await EventLog(target_pool).read_stream(stream)
    assert [(e.type, e.schema_version, e.data) for e in (audited, finished)] == [
        ("IntentAudited", 1, data), ("SandboxRunFinished", 9, data)
    ]  # fmt: skip
    with pytest.raises(UnreadableStream, match="event 7: SandboxRunFinished has schema version 9"):
        await IntentRepository(EventLog(target_pool)).load(intents[0])


async def test_streams_that_cannot_be_folded_are_imported_named_and_parked(
    target: Database, target_pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    strange = [
        (stored(stream_id=f"intent-{uuid4()}"), "the stream begins with T"),
        (submission(f"intent-{uuid4()}", "{}"), "Object missing required field"),
        (submission(f"intent-{uuid4()}", "[]"), "Expected `object`, got `array`"),
        (submission(f"intent-{uuid4()}", schema_version=2), "of a later release"),
    ]
    fine = submission(f"intent-{INTENT}")
    (path := tmp_path / "export").write_bytes(export(*(event for event, _ in strange), fine))
    result = await imported(target, path)
    assert (result.staged.new, result.rows, result.parked) == (5, 1, 4)
    reasons = dict(each.split(", event 1: ") for each in result.first_parked)
    listed = {p.stream_id: p.error for p in await parked_streams(target_pool, "intent_states")}
    assert reasons == listed
    for event, reason in strange:
        assert reason in listed[event.stream_id]
    assert await IntentReads(target_pool).get("acme", INTENT) is not None


ODD = [
    r'{"a": "\ud800"}', r'{"a": "\udc00\ud800", "b": "\u0000"}', '{"a": 1e999}', '{"a": -1e999}',
    "[1]", '"text"', "null", "12", '{"a": 1, "a": 2}', '{"n": 1234567890123456789012345678901}',
    '{"deep": ' + "[" * 1200 + "]" * 1200 + "}", ' {"a" :\n1 } ',
]  # fmt: skip


async def test_odd_json_is_carried_as_it_is_and_what_only_postgresql_reads_is_named(
    pool: AsyncConnectionPool, database: Database, target: Database,
    target_pool: AsyncConnectionPool, tmp_path: Path,
) -> None:  # fmt: skip
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        for number, data in enumerate(ODD):
            owner.execute(
                """insert into events (event_id, stream_id, version, type, schema_version,
                tenant_id, command_id, metadata, data) values (gen_random_uuid(), %s, 1,
                'IntentSubmitted', 1, 'acme', gen_random_uuid(), %s, %s)""",
                [f"intent-{uuid4()}" if number % 2 else f"odd-{number}", data, data],
            )
    done = await exported(pool, path := tmp_path / "export")
    assert (done.events, done.odd, len(done.first_odd)) == (len(ODD), 5, 5)
    assert "odd-0, event 1" in done.first_odd
    result = await imported(target, path)
    assert (result.staged.new, result.parked) == (len(ODD), len(ODD) // 2)
    assert told(await whole(target_pool)) == told(await whole(pool))
    assert sorted(event.data_json for event in await whole(target_pool)) == sorted(ODD)
    assert (await LogVerifier(target_pool).verify()).intact
    for name in ("intent_states", "usage_daily"):
        await Projections(target_pool).run_until_caught_up()
        assert (await verify(target_pool, name)).differing == 0


async def test_text_that_the_database_does_not_take_for_json_is_refused_by_its_line(
    target: Database, tmp_path: Path
) -> None:
    for field in ("data", "metadata"):
        events = [stored(), stored(version=2, **{field: '{"a": NaN}'})]
        (path := tmp_path / "export").write_bytes(export(*events))
        said = "storeddata" if field == "data" else field
        with pytest.raises(ImportRefused, match=f"line 2: {said}: not JSON"):
            await imported(target, path)


async def test_an_export_that_begins_behind_the_log_is_refused(
    pool: AsyncConnectionPool, intents: list[UUID], tmp_path: Path
) -> None:
    done = await exported(pool, tmp_path / "whole")
    assert (await exported(pool, tmp_path / "rest", after=done.end)).events == 0
    for behind in (
        Heads((*done.end.positions[:-1], done.end.positions[-1] + 1)),
        Heads((2**62, *done.end.positions[1:])),
    ):
        with pytest.raises(OperationError, match="lies beyond the end of this log"):
            await exported(pool, tmp_path / "none", after=behind)


async def test_a_dry_run_verifies_and_imports_nothing(
    exported_file: Path,
    pool: AsyncConnectionPool,
    target: Database,
    target_pool: AsyncConnectionPool,
) -> None:
    seen: list[int] = []
    with exported_file.open("rb") as file:
        result = await import_events(
            target.admin_url, file, confirm=lambda _: False, progress=seen.append
        )
    assert result.staged.new == len(await whole(pool))
    assert seen[-1] < exported_file.stat().st_size
    assert await whole(target_pool) == []
    with psycopg.connect(target.admin_url) as owner:
        left = owner.execute("select count(*) from import_events").fetchall()
    assert left == [(0,)], "nothing of the file stays in the database"


async def test_a_clash_refuses_the_whole_file(
    exported_file: Path, intents: list[UUID], target: Database, target_pool: AsyncConnectionPool
) -> None:
    stream = f"intent-{intents[4]}"
    event = NewEvent(uuid4(), "Other", 1, {})
    await EventLog(target_pool).append(stream, "other", 0, uuid4(), [event], {})
    with pytest.raises(ImportRefused, match=rf"line \d+: subject: version 1 of '{stream}' clashes"):
        await imported(target, exported_file)
    assert len(await whole(target_pool)) == 1


async def test_an_import_that_breaks_off_before_it_is_certain_leaves_nothing(
    exported_file: Path,
    target: Database,
    target_pool: AsyncConnectionPool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: object) -> None:
        raise ConnectionError("gone in between")

    with monkeypatch.context() as breaking:
        breaking.setattr(Staging, "accept", broken)
        with pytest.raises(ConnectionError):
            await imported(target, exported_file)
    assert await whole(target_pool) == []
    assert (await imported(target, exported_file)).staged.known == 0


@pytest.mark.parametrize("before", [0, 2, 5])
async def test_an_import_that_breaks_off_later_is_finished_by_the_next_one(
    exported_file: Path,
    pool: AsyncConnectionPool,
    target: Database,
    target_pool: AsyncConnectionPool,
    monkeypatch: pytest.MonkeyPatch,
    before: int,
) -> None:
    """Until then nobody else writes to its streams, and no stream is there in part."""
    written = 0

    def breaks(row: IntentRow) -> InlineWrite:
        nonlocal written
        if written == before:
            raise ConnectionError("gone in between")
        written += 1
        return upsert(row)

    monkeypatch.setattr(staging, "_STEP", 1)  # each stream in a transaction of its own
    with monkeypatch.context() as breaking:
        breaking.setattr("domain.operations.transfer.upsert", breaks)
        with pytest.raises(ConnectionError):
            await imported(target, exported_file)
    there = await whole(target_pool)
    everything = await whole(pool)
    assert {e.stream_id for e in there} < {e.stream_id for e in everything}
    assert told(there) == told([e for e in everything if e.stream_id in streams(there)])
    assert len(streams(there)) == before
    missing = (streams(everything) - streams(there)).pop()
    event = NewEvent(uuid4(), "Other", 1, {})
    with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
        await EventLog(target_pool).append(missing, "acme", 0, uuid4(), [event], {})
    assert outage_of(refused.value)
    if before:
        assert (await imported(target, exported_file)).staged.new == 0
    else:
        assert await end_import(target.admin_url, give_up=False)
        assert not await end_import(target.admin_url, give_up=False)
    assert told(await whole(target_pool)) == told(everything)
    assert (await verify(target_pool, "intent_states")).differing == 0
    assert (await LogVerifier(target_pool).verify()).intact
    await EventLog(target_pool).append("another", "acme", 0, uuid4(), [event], {})


def streams(events: list[RecordedEvent]) -> set[str]:
    """The streams of some events."""
    return {event.stream_id for event in events}


async def test_writers_wait_for_an_import_less_than_a_second(
    pool: AsyncConnectionPool, target: Database, target_pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    log = EventLog(pool)
    for number in range(300):
        events = [NewEvent(uuid4(), "Happened", 1, {"n": n}) for n in range(20)]
        await log.append(f"s-{number}", "acme", 0, uuid4(), events, {})
    await exported(pool, path := tmp_path / "export")
    waited: list[float] = []

    async def write(writer: int) -> None:
        while not importing.done():
            began = time.perf_counter()
            event = NewEvent(uuid4(), "Happened", 1, {})
            stream = f"own-{writer}-{len(waited)}"
            await EventLog(target_pool).append(stream, "acme", 0, uuid4(), [event], {})
            waited.append(time.perf_counter() - began)

    importing = asyncio.create_task(imported(target, path))
    await asyncio.gather(*(write(writer) for writer in range(4)))
    assert (await importing).staged.new == 6_000
    assert len(waited) > 100
    assert max(waited) < 1.0
    assert (await LogVerifier(target_pool).verify()).intact


async def test_what_no_row_can_hold_is_refused_before_anything_is_certain(
    exported_file: Path,
    target: Database,
    target_pool: AsyncConnectionPool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def overflows(_: object) -> None:
        raise OverflowError("date value out of range")

    with monkeypatch.context() as odd:
        odd.setattr("domain.operations.transfer.row_of", overflows)
        with pytest.raises(ImportRefused, match=r"stream 'intent-.*': a time is out of range"):
            await imported(target, exported_file)
    assert await whole(target_pool) == []
    with psycopg.connect(target.admin_url) as owner:
        left = owner.execute("select count(*) from import_events").fetchall()
    assert left == [(0,)], "nothing of a refused file stays in the database"
    assert not await end_import(target.admin_url, give_up=False)


async def test_a_row_that_the_database_refuses_parks_its_stream_and_the_import_ends(
    exported_file: Path, target: Database, target_pool: AsyncConnectionPool
) -> None:
    with psycopg.connect(target.admin_url, autocommit=True) as owner:
        owner.execute("alter table intent_states add check (tenant_id <> 'other')")
    await imported(target, exported_file)
    parked = await parked_streams(target_pool)
    assert len(parked) == 2
    assert all("violates check constraint" in one.error for one in parked)


@pytest.mark.parametrize("accepted", [False, True], ids=["before", "after"])
async def test_an_event_id_that_is_taken_meanwhile_keeps_no_import_from_its_end(
    exported_file: Path,
    target: Database,
    target_pool: AsyncConnectionPool,
    monkeypatch: pytest.MonkeyPatch,
    accepted: bool,
) -> None:
    """By a stream that is not in the file, before or after the import is certain."""
    taken = UUID(lines(exported_file)[3]["id"])
    accept = Staging.accept
    refused: list[Exception] = []

    async def take() -> None:
        event = NewEvent(taken, "Other", 1, {})
        try:
            await EventLog(target_pool).append("unrelated", "acme", 0, uuid4(), [event], {})
        except psycopg.errors.LockNotAvailable as error:
            refused.append(error)

    async def accept_beside(self: Staging) -> None:
        if not accepted:
            await take()
        await accept(self)
        if accepted:
            await take()

    monkeypatch.setattr(Staging, "accept", accept_beside)
    if accepted:
        assert (await imported(target, exported_file)).staged.known == 0
        assert len(refused) == 1
    else:
        with pytest.raises(ImportRefused, match="clashes with event"):
            await imported(target, exported_file)
    assert ("unrelated" in streams(await whole(target_pool))) is not accepted
    assert (await LogVerifier(target_pool).verify()).intact


async def test_an_event_id_in_a_transaction_that_has_not_ended_is_waited_for(
    exported_file: Path,
    target: Database,
    target_pool: AsyncConnectionPool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may lie in a lane that the file does not use."""
    accept = Staging.accept
    async with await psycopg.AsyncConnection.connect(target.admin_url) as other:

        async def accept_beside(self: Staging) -> None:
            await other.execute(
                """select append_one('unrelated', 'acme', 0, gen_random_uuid(), '{}', %s,
                'T', 1::smallint, '{}')""",
                [lines(exported_file)[3]["id"]],
            )
            accepting = asyncio.create_task(accept(self))
            await asyncio.sleep(0.3)
            assert not accepting.done()
            await other.commit()
            await accepting

        monkeypatch.setattr(Staging, "accept", accept_beside)
        with pytest.raises(ImportRefused, match="clashes with event"):
            await imported(target, exported_file)
    assert streams(await whole(target_pool)) == {"unrelated"}


async def test_what_else_is_written_to_a_stream_that_is_being_imported_is_refused(
    exported_file: Path, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an earlier release, which inserts without the append functions."""
    stream = lines(exported_file)[0]["subject"]

    async def breaks(*_: object) -> None:
        with (
            psycopg.connect(target.admin_url) as owner,
            pytest.raises(psycopg.errors.LockNotAvailable, match="is being imported"),
        ):
            owner.execute(
                """insert into events (event_id, stream_id, version, type, schema_version,
                tenant_id, command_id, metadata, data) values (gen_random_uuid(), %s, 1, 'T', 1,
                'acme', gen_random_uuid(), '{}', '{}')""",
                [stream],
            )
        raise ConnectionError("gone in between")

    with monkeypatch.context() as breaking:
        breaking.setattr(Staging, "move", breaks)
        with pytest.raises(ConnectionError):
            await imported(target, exported_file)
    assert await end_import(target.admin_url, give_up=False)


async def no_more_sessions() -> psycopg.AsyncConnection:
    raise AssertionError("so few events need one session")


async def test_an_import_that_stands_still_holds_up_nobody_for_long(
    exported_file: Path, target: Database, target_pool: AsyncConnectionPool
) -> None:
    async with await psycopg.AsyncConnection.connect(target.admin_url, autocommit=True) as owner:
        import_ = Staging(owner, no_more_sessions)
        await import_.begin()
        with exported_file.open("rb") as file:
            await copy_events(owner, read_export(file), (), lambda _: None)

        async def stands_still() -> None:
            async with owner.transaction():
                await import_._run("short")
                await import_._run("hold_lanes")
                event = NewEvent(uuid4(), "Happened", 1, {})
                await EventLog(target_pool).append("held", "acme", 0, uuid4(), [event], {})

        began = time.perf_counter()
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await stands_still()
        assert time.perf_counter() - began < 2


async def test_a_rest_that_cannot_be_imported_can_be_given_up(
    exported_file: Path,
    target: Database,
    target_pool: AsyncConnectionPool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def breaks(*_: object) -> None:
        raise ConnectionError("gone in between")

    with monkeypatch.context() as breaking:
        breaking.setattr(Staging, "move", breaks)
        with pytest.raises(ConnectionError):
            await imported(target, exported_file)
    arguments = ("events", "import", "--give-up")
    unsure = await qlp(*arguments, url=target.url, DATABASE_ADMIN_URL=target.admin_url)
    complaint = "nobody can confirm, as standard input is no terminal: use --yes\n"
    assert (unsure.code, unsure.err) == (1, f"qlp: {complaint}")
    assert await end_import(target.admin_url, give_up=True)
    assert not await end_import(target.admin_url, give_up=True)
    event = NewEvent(uuid4(), "Happened", 1, {})
    stream = lines(exported_file)[0]["subject"]
    await EventLog(target_pool).append(stream, "acme", 0, uuid4(), [event], {})
    assert streams(await whole(target_pool)) == {stream}


async def test_two_imports_at_once_are_refused(exported_file: Path, target: Database) -> None:
    async with await psycopg.AsyncConnection.connect(target.admin_url, autocommit=True) as other:
        assert await Staging(other, no_more_sessions).begin() is False
        with pytest.raises(ImportRefused, match="another import is running"):
            await imported(target, exported_file)
    assert (await imported(target, exported_file)).staged.known == 0


async def test_a_stream_written_to_during_the_import_is_not_mixed_up(
    exported_file: Path, intents: list[UUID], target: Database, target_pool: AsyncConnectionPool
) -> None:
    """An append that was committed after the comparison takes a version of the file."""
    stream = f"intent-{intents[0]}"
    async with await psycopg.AsyncConnection.connect(target.admin_url) as other:
        await other.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, metadata, data)
            values (gen_random_uuid(), %s, 1, 'T', 1, 'acme', gen_random_uuid(), '{}', '{}')""",
            [stream],
        )
        importing = asyncio.create_task(imported(target, exported_file))
        async with await psycopg.AsyncConnection.connect(
            target.admin_url, autocommit=True
        ) as watching:
            waits = b"select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            waiting = 0
            while not waiting:
                [[waiting]] = await (await watching.execute(waits)).fetchall()
        await other.commit()
        with pytest.raises(ImportRefused, match="clashes with event"):
            await importing
    assert [event.type for event in await whole(target_pool)] == ["T"]


def change(key: str, value: Any) -> Callable[[list[bytes]], None]:
    def apply(content: list[bytes]) -> None:
        line = json.loads(content[2])
        if value is None:
            del line[key]
        else:
            line[key] = value
        content[2] = json.dumps(line).encode() + b"\n"

    return apply


def trail(**values: Any) -> Callable[[list[bytes]], None]:
    def apply(content: list[bytes]) -> None:
        trailer = {**json.loads(content[-1])["trailer"], **values}
        content[-1] = json.dumps({"trailer": trailer}, separators=(",", ":")).encode() + b"\n"

    return apply


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda content: content.pop(), "the trailer is missing: the file was cut off"),
        (lambda content: content.pop(1), r"trailer.events: says \d+, the file has"),
        (lambda content: content.insert(1, content.pop(2)), "trailer.sha256: the lines before"),
        (lambda content: content.append(b"x\n"), "nothing may follow the trailer"),
        (lambda content: content.insert(2, b"{\n"), "line 3: not JSON"),
        (lambda content: content.insert(2, b"[]\n"), "line 3: line: must be an object"),
        (lambda content: content.clear(), "line 1: the file is empty"),
        (lambda content: content.append(content.pop()[:-9]), "the file was cut off"),
        (lambda content: content.append(content.pop(3)[:50]) or content.pop(3), "line 4: ends in"),
        (lambda content: content.insert(0, content.pop(0)[:-1] + b"\r\n"), "line 1: ends with CR"),
        (lambda content: content.insert(0, b"\xef\xbb\xbf" + content.pop(0)), "byte order mark"),
        (lambda content: content.insert(0, gzip.compress(content.pop(0))), "compressed with gzip"),
        (lambda content: content.insert(0, content.pop(0).decode().encode("utf-16")), "UTF-16"),
        (lambda content: content.insert(0, content.pop(0).decode().encode("utf-16-le")), "UTF-16"),
        (lambda content: content.insert(0, content.pop(0).decode().encode("utf-16-be")), "UTF-16"),
        (lambda content: content.insert(0, b"[" + content.pop(0)), "a JSON array"),
        (change("time", "0001-01-01T00:00:00+14:00"), "line 3: time: must be within the years"),
        (trail(events=1), "trailer.events: says 1"),
        (trail(sha256="0" * 64), "trailer.sha256"),
        (trail(sha256=None), "trailer.sha256: must be text"),
        (change("id", str(uuid4())), "line 3: digest: does not match the event"),
        (change("id", "x"), "line 3: id: must be a UUID"),
        (change("subject", "other"), "line 3: digest"),
        (change("subject", "a\x00b"), "line 3: subject: .*NUL"),
        (change("type", "IntentSubmitted"), "line 3: type: must begin with 'qlp.'"),
        (change("time", "2026-01-01T00:00:00.000001Z"), "line 3: digest"),
        (change("time", "2026-01-01T00:00:00"), "line 3: time: .*timezone"),
        (change("time", 1767225600), "line 3: time: .*must be a time"),
        (change("time", "1767225600"), "line 3: time: .*must be a time"),
        (change("streamversion", "2"), "line 3: streamversion: must be a whole number"),
        (change("schemaversion", True), "line 3: schemaversion: must be a whole number"),
        (trail(events="3"), "trailer.events: must be a whole number"),
        (change("streamversion", 0), "line 3: streamversion: must be at least 1"),
        (change("streamversion", 2**31), "line 3: streamversion"),
        (change("schemaversion", 2), "line 3: digest"),
        (change("tenantid", "evil"), "line 3: digest"),
        (change("commandid", None), "line 3: commandid: must be given"),
        (change("metadata", "{}"), "line 3: digest"),
        (change("metadata", "[]"), "line 3: digest"),
        (change("data", {"x": 1}), "line 3: digest"),
        (change("data", []), "line 3: digest"),
        (change("storeddata", "{}"), "line 3: storeddata: differs from data"),
        (change("digest", "0" * 64), "line 3: digest: does not match"),
        (change("extension", "1"), "line 3: extension: is not a field here"),
        (change("e" * 9000, "1"), "e…: is not a field here"),
        (change("specversion", "2.0"), "line 3: specversion: must be '1.0'"),
    ],
)  # fmt: skip
def test_a_changed_file_is_refused_with_line_and_field(
    damage: Callable[[list[bytes]], None], complaint: str
) -> None:
    content = EXPORT.splitlines(keepends=True)
    assert len(list(read_export(io.BytesIO(b"".join(content))))) == 4
    damage(content)
    with pytest.raises(InvalidExport, match=complaint):
        list(read_export(io.BytesIO(b"".join(content))))


def stored(**values: Any) -> StoredEvent:
    event = StoredEvent(uuid4(), "s", 1, "T", 1, "acme", uuid4(), datetime.now(UTC),
                        "{}", "{}", b"")._replace(**values)  # fmt: skip
    return event._replace(digest=event_digest(event))


def submission(stream_id: str, data: str | None = None, **values: Any) -> StoredEvent:
    data = msgspec.json.encode(submitted()).decode() if data is None else data
    return stored(stream_id=stream_id, type=IntentSubmitted.type, data=data, **values)


def export(*events: StoredEvent) -> bytes:
    writer = ExportWriter()
    return b"".join([*map(writer.line, events), writer.trailer(Heads.start())])


OUT_OF_BOUNDS = (
    msgspec.json.encode(submitted()).decode().replace('"path":"main.py"', '"path":"../main.py"')
)

EXPORT = export(*(stored(version=n, metadata='{"a":1}', data='{"b":2}') for n in range(1, 5)))


REFUSED: list[tuple[list[StoredEvent], str]] = [
    ([stored(), stored()], "line 2: streamversion: the same as on line 1"),
    ([stored(version=2), stored()], "line 2: streamversion: 1 of 's' comes after 2"),
    ([stored(), stored(version=3)], "line 2: streamversion: the log needs version 1|gaps"),
    ([stored(), stored(version=2, tenant_id="b")], "line 2: tenantid: 'b', but .* 'acme'"),
    (
        [stored(event_id=(same := uuid4())), stored(event_id=same, version=2)],
        "line 2: id: the same as on line 1",
    ),
    ([submission(f"intent-{INTENT}", OUT_OF_BOUNDS)], "version 1: data: .*relative path"),
    ([submission("s", OUT_OF_BOUNDS)], "version 1: data: .*relative path"),
    ([submission(f"intent-{uuid4()}")], f"to intent {INTENT} .* to another"),
    ([submission(f"intent-{INTENT}", tenant_id="evil")], "of tenant 'acme', .* to another"),
]


async def test_events_that_cannot_be_a_log_are_refused_although_the_file_is_whole(
    target: Database, target_pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    for events, complaint in REFUSED:
        (path := tmp_path / "export").write_bytes(export(*events))
        with pytest.raises(ImportRefused, match=complaint):
            await imported(target, path)
        assert await whole(target_pool) == []


VALUES = st.text(max_size=9) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), st.booleans(), st.booleans())
def test_whatever_json_is_stored_comes_back_byte_for_byte(
    data: Any, spaced: bool, escaped: bool
) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    event = stored(data=json.dumps(data, separators=separators, ensure_ascii=escaped))
    [back] = read_export(io.BytesIO(export(event)))
    assert back.event == event


async def test_an_export_takes_the_same_memory_for_any_number_of_events(
    pool: AsyncConnectionPool, database: Database
) -> None:
    peaks = []
    for events in (4_000, 16_000):
        with psycopg.connect(database.admin_url, autocommit=True) as owner:
            owner.execute(
                """insert into events (event_id, stream_id, version, type, schema_version,
                tenant_id, command_id, metadata, data)
                select gen_random_uuid(), gen_random_uuid()::text, 1, 'T', 1, 'acme',
                gen_random_uuid(), '{}', json_build_object('x', repeat('x', 300))
                from generate_series(1, %s)""",
                [events],
            )
        tracemalloc.start()
        await export_events(pool, EVERYTHING, Heads.start(), lambda _: None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3


async def test_a_stream_with_a_gap_does_not_keep_the_others_from_being_imported(
    pool: AsyncConnectionPool,
    intents: list[UUID],
    database: Database,
    target: Database,
    target_pool: AsyncConnectionPool,
    tmp_path: Path,
) -> None:
    """As SQL can make one; the refusal says how to go on."""
    broken = f"intent-{intents[0]}"
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute("delete from events where stream_id = %s and version = 2", [broken])
    await exported(pool, path := tmp_path / "log")
    with pytest.raises(ImportRefused, match=f"import the others, --without {broken}$"):
        await imported(target, path)
    command = ("events", "import", str(path), "--yes", "--json", "--without")
    unknown = await qlp(*command, "nothing", url=target.url, DATABASE_ADMIN_URL=target.admin_url)
    assert (unknown.code, "the file has no stream 'nothing'" in unknown.err) == (1, True)
    said = await qlp(*command, broken, url=target.url, DATABASE_ADMIN_URL=target.admin_url)
    assert said.code == 0
    everything_else = [e for e in await whole(pool) if e.stream_id != broken]
    assert told(await whole(target_pool)) == told(everything_else)
    assert said.json["staged"]["left_out"] == len(await whole(pool)) - len(everything_else)
    assert (await LogVerifier(target_pool).verify()).intact
