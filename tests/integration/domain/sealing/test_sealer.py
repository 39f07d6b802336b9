"""Seals are made of what is committed, each once, whatever fails; a rewrite is noticed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.operations.log_integrity import LogVerifier
from domain.operations.proof import NoProof, prove
from domain.sealing import sealer as module
from domain.sealing.anchors import AnchorDiffers, AnchorUnavailable, FileAnchor, Kept
from domain.sealing.keys import FileKey, KeyUnavailable, PublicKey, SigningKey
from domain.sealing.reads import SealReads
from domain.sealing.sealer import LogRewritten, Sealer, SealsMissing
from tests.support import ROOT
from tests.support.postgres import Database
from tests.support.sealing import new_key

SAME = [f"s-{n}" for n in range(3000) if lane_of(f"s-{n}") == 7][:6]


async def append(log: EventLog, *stream_ids: str) -> list[UUID]:
    events = [NewEvent(uuid4(), "Happened", 1, {"ü": 'x"\n'}) for _ in stream_ids]
    for stream_id, event in zip(stream_ids, events, strict=True):
        await log.append(stream_id, "acme", 0, uuid4(), [event], {})
    return [event.event_id for event in events]


def tamper(database: Database, statement: str) -> None:
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute(statement.encode())


async def kept(anchor: FileAnchor) -> list[Kept]:
    return [each async for each in anchor.kept()]


async def test_each_seal_is_signed_and_logged_with_its_digest(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = new_key(tmp_path)
    public = PublicKey.parse(path.read_text())
    await append(event_log, "s")
    with caplog.at_level(logging.INFO, "qlp.seals"):
        await Sealer(pool, FileKey(path)).run_until_caught_up()
    [seal] = await SealReads(pool).newest(10)
    assert public.signed(seal)
    assert not PublicKey.parse(new_key(tmp_path, "other").read_text()).signed(seal)
    [record] = [record for record in caplog.records if record.name == "qlp.seals"]
    expected = f"seal seq=1 digest={seal.digest.hex()} events=1 key={public.key_id}"
    assert record.getMessage() == expected


async def test_a_write_transaction_held_open_elsewhere_delays_no_seal(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database
) -> None:
    async with await psycopg.AsyncConnection.connect(database.admin_url) as slow:
        await slow.execute("select pg_current_xact_id()")
        await append(event_log, "s")
        assert await Sealer(pool).run_until_caught_up() == 1
    result = await LogVerifier(pool).verify()
    assert (result.events, result.unsealed, result.findings) == (1, 0, [])


async def test_many_sealers_at_once_make_each_seal_once(
    event_log: EventLog, pool: AsyncConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    await append(event_log, *(f"s-{n}" for n in range(20)))
    made = await asyncio.gather(*(Sealer(pool).run_until_caught_up() for _ in range(4)))
    while await Sealer(pool).run_until_caught_up():
        pass
    result = await LogVerifier(pool).verify()
    assert (result.seals, result.events, result.findings) == (7, 20, [])
    assert sum(made) <= 7


REWRITTEN = {
    "an unsealed chain": "update events set chain_digest = sha256('') where lane_position = 4",
    "an unsealed event's digest": "update events set digest = sha256('') where lane_position = 4",
    "another in its place": (
        "delete from events where lane_position = 4;"
        " update events set lane_position = 4 where lane_position = 5"
    ),
    "an unsealed event": "delete from events where lane_position = 4",
    "the sealed end": "delete from events where lane_position >= 3",
}


@pytest.mark.parametrize("what", REWRITTEN)
async def test_a_lane_that_does_not_continue_what_was_sealed_is_noticed_at_the_next_seal(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    sealer = Sealer(pool)
    await append(event_log, *SAME[:3])
    await sealer.run_until_caught_up()
    await append(event_log, *SAME[3:])
    tamper(database, REWRITTEN[what])
    with (
        caplog.at_level(logging.WARNING, "qlp.security"),
        pytest.raises(LogRewritten, match="lane 7"),
    ):
        await sealer.run_until_caught_up()
    assert '"kind": "log_rewritten", "lane": 7' in caplog.text
    assert len(await SealReads(pool).newest(10)) == 1


@pytest.mark.parametrize("gone", ["seals", "seal_progress"])
async def test_seals_that_are_gone_are_missed_and_nothing_is_sealed_over_them(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    gone: str,
) -> None:
    sealer = Sealer(pool)
    await append(event_log, "s")
    await sealer.run_until_caught_up()
    tamper(database, f"delete from {gone}")
    await append(event_log, "late")
    with caplog.at_level(logging.WARNING, "qlp.security"), pytest.raises(SealsMissing):
        await sealer.run_until_caught_up()
    assert '"kind": "seals_missing"' in caplog.text
    tamper(
        database,
        """truncate seals, seal_heads; delete from seal_progress;
        insert into seal_progress (seq) select coalesce(max(seq), 0) from range_seals""",
    )
    assert await sealer.run_until_caught_up() == 1, "begun anew, as docs/operators.md says"
    assert (await LogVerifier(pool).verify()).intact


async def test_without_its_key_nothing_is_sealed_until_it_is_there(
    event_log: EventLog, pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    await append(event_log, "s")
    path = tmp_path / "seal.pem"
    sealer = Sealer(pool, FileKey(path))
    with pytest.raises(KeyUnavailable, match=r"QLP_SEAL_SIGNER: .*: No such file"):
        await sealer.run_until_caught_up()
    path.write_text("-----BEGIN NOTHING-----")
    with pytest.raises(KeyUnavailable, match="not a PEM file with a private key"):
        await sealer.run_until_caught_up()
    assert await SealReads(pool).newest(1) == []
    new_key(tmp_path)
    assert await sealer.run_until_caught_up() == 1


async def test_a_seal_of_a_database_that_was_exchanged_meanwhile_is_not_made(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database, tmp_path: Path
) -> None:
    """As by a restore: the heads that were read are not those of the log any more."""
    await append(event_log, *SAME[:3])

    class Slow(FileKey):
        async def current(self) -> SigningKey:
            tamper(database, "delete from events where lane_position = 3")
            return await super().current()

    assert await Sealer(pool, Slow(new_key(tmp_path))).run_until_caught_up() == 0
    assert await SealReads(pool).newest(1) == []


async def test_what_could_not_be_anchored_is_anchored_by_the_next_run(
    event_log: EventLog, pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    anchor = FileAnchor(folder / "seals")
    sealer = Sealer(pool, None, anchor)
    await append(event_log, "s")
    with pytest.raises(AnchorUnavailable, match="No such file"):
        await sealer.run_until_caught_up()
    [seal] = await SealReads(pool).newest(1)
    folder.mkdir()
    assert await sealer.run_until_caught_up() == 0
    assert await kept(anchor) == [Kept(1, seal.digest)]
    await sealer.run_until_caught_up()
    assert len(await kept(anchor)) == 1
    # A process that died before it could note that.
    async with pool.connection() as connection:
        await connection.execute("update seal_anchors set seq = 0")
    await sealer.run_until_caught_up()
    assert len(await kept(anchor)) == 1


async def test_a_line_that_was_not_written_to_its_end_spoils_no_other(
    event_log: EventLog, pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    anchor = FileAnchor(tmp_path / "seals")
    for number in range(3):
        await append(event_log, f"s-{number}")
        await Sealer(pool, None, anchor).run_until_caught_up()
        if number == 1:
            text = (tmp_path / "seals").read_text()
            (tmp_path / "seals").write_text(text[:-30])
    numbers = [each.number for each in await kept(anchor)]
    assert numbers == [1, 3]
    assert (await LogVerifier(pool).verify(kept=await kept(anchor))).intact


@pytest.mark.parametrize("how", ["another", "newer"])
async def test_an_anchor_that_holds_another_seal_is_reported_and_left_as_it_is(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    database: Database,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    """As after a restore to an earlier time, or if the log was written anew."""
    anchor = FileAnchor(tmp_path / "seals")
    sealer = Sealer(pool, None, anchor)
    for number in range(2 if how == "newer" else 1):
        await append(event_log, f"s-{number}")
        await sealer.run_until_caught_up()
    before = (tmp_path / "seals").read_text()
    tamper(
        database,
        "truncate seals, seal_heads, seal_anchors; update seal_progress set seq = 0",
    )
    await append(event_log, "late")
    with caplog.at_level(logging.WARNING, "qlp.security"), pytest.raises(AnchorDiffers):
        await sealer.run_until_caught_up()
    assert '"kind": "anchor_differs"' in caplog.text
    assert (tmp_path / "seals").read_text() == before
    assert len(await SealReads(pool).newest(9)) == 1, "sealing goes on"
    assert not (await LogVerifier(pool).verify(kept=await kept(anchor))).intact


async def test_each_event_is_proved_to_somebody_without_access(
    event_log: EventLog, pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    """By the page that is made for that, which imports nothing of ours."""
    page: dict[str, object] = {"__name__": "check_proof"}
    source = (ROOT / "docs/security/check_proof.py").read_text()
    assert "domain" not in source
    exec(compile(source, "check_proof.py", "exec"), page)
    check = page["check"]
    assert callable(check)
    path = new_key(tmp_path)
    key = FileKey(path)
    first = await append(event_log, *SAME[:4], "other")
    with pytest.raises(NoProof, match="not sealed yet"):
        await prove(pool, first[0])
    await Sealer(pool, key).run_until_caught_up()
    second = await append(event_log, *SAME[4:])
    await Sealer(pool, key).run_until_caught_up()
    for event_id in (*first, *second):
        proof = json.loads(json.dumps(await prove(pool, event_id)))
        said = check(proof, proof["public_key"])
        assert str(event_id) in said
        for field, value in (("data", "{}"), ("tenant_id", "evil"), ("version", 2)):
            forged = {**proof, "event": {**proof["event"], field: value}}
            with pytest.raises(ValueError, match="does not lead"):
                check(forged, proof["public_key"])
        for field, value in (("lane", 8), ("lane_position", 9), ("path", proof["path"][::-1])):
            with pytest.raises(ValueError, match="does not lead"):
                check({**proof, field: value}, proof["public_key"])
        other = PublicKey.parse(new_key(tmp_path, "other").read_text()).pem
        with pytest.raises(ValueError, match="has not signed"):
            check(proof, other)
    with pytest.raises(NoProof, match="no event"):
        await prove(pool, uuid4())


async def test_what_was_tampered_with_is_not_proved(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database
) -> None:
    ids = await append(event_log, *SAME[:4])
    await Sealer(pool).run_until_caught_up()
    tamper(database, "update events set digest = sha256('') where lane_position = 2")
    for event_id in ids[:2]:
        with pytest.raises(NoProof, match="not what seal 1 covers"):
            await prove(pool, event_id)
    assert (await prove(pool, ids[3]))["public_key"] is None


SIGNED = {
    "a head was made to fit": """update events set data = '{}', digest = sha256('x'),
        chain_digest = sha256('y') where lane_position = 2;
        update seal_heads set chain_digest = sha256('y') where seq = 1""",
    "a sealed end, not its head": "update events set chain_digest = '' where lane_position = 2",
    "another seal's text": "update seals set statement = 'x'",
    "its signature": "update seals set statement = regexp_replace(statement, '.....$', 'AAAAA')",
}


@pytest.mark.parametrize("what", SIGNED)
async def test_nothing_is_signed_that_does_not_continue_the_last_seal(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database, tmp_path: Path, what: str
) -> None:
    sealer = Sealer(pool, FileKey(new_key(tmp_path)))
    await append(event_log, *SAME[:2])
    await sealer.run_until_caught_up()
    tamper(database, SIGNED[what])
    await append(event_log, "other")
    with pytest.raises((LogRewritten, SealsMissing)):
        await sealer.run_until_caught_up()
    assert not (await LogVerifier(pool).verify()).intact


async def test_a_file_that_somebody_keeps_locked_or_that_is_full_is_no_anchor(
    event_log: EventLog,
    pool: AsyncConnectionPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("domain.sealing.anchors._LOCK_SECONDS", 0.2)
    path = tmp_path / "seals"
    sealer = Sealer(pool, None, FileAnchor(path))
    await append(event_log, "s")
    path.touch()
    with path.open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with pytest.raises(AnchorUnavailable, match="keeps it locked"):
            await sealer.run_until_caught_up()
    await sealer.run_until_caught_up()
    assert len(await kept(FileAnchor(path))) == 1


async def test_an_anchor_is_used_again_after_a_new_beginning(
    event_log: EventLog, pool: AsyncConnectionPool, database: Database, tmp_path: Path
) -> None:
    anchor = FileAnchor(tmp_path / "seals")
    for number in range(3):
        await append(event_log, f"s-{number}")
        await Sealer(pool, None, anchor).run_until_caught_up()
    tamper(database, "truncate seals, seal_heads; update seal_progress set seq = 0")
    (tmp_path / "seals").unlink()
    await Sealer(pool, None, anchor).run_until_caught_up()
    assert [each.number for each in await kept(anchor)] == [1]
