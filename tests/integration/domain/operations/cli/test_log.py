"""``qlp log``: an operator, and a script, learn whether the log is what it was."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.projections.registry import Projections
from domain.sealing.keys import FileKey, PublicKey
from domain.sealing.reads import SealReads
from domain.sealing.sealer import Sealer
from tests.support import ROOT
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp
from tests.support.sealing import new_key


async def sealed(pool: AsyncConnectionPool, key: Path | None = None) -> str:
    """The stream of a sealed intent."""
    intent_id = await Recorder(pool).finished()
    await Sealer(pool, FileKey(key) if key is not None else None).run_until_caught_up()
    return f"intent-{intent_id}"


def tamper(database: Database, statement: str) -> None:
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute(statement.encode())


async def test_a_changed_event_is_named_and_the_exit_code_is_1(
    pool: AsyncConnectionPool, database: Database, tmp_path: Path
) -> None:
    key = new_key(tmp_path)
    stream = await sealed(pool, key)
    await Recorder(pool).submitted()
    [kept] = await SealReads(pool).newest(1)
    head = f"{kept.number}:{kept.digest.hex()}"
    intact = await qlp("log", "verify", url=database.url)
    assert (intact.code, intact.out) == (
        0,
        "verified 5 events in 1 seals; 1 events are not sealed yet\n"
        f"seals 1 to 1: 1 signed by key {kept.key_id}\nthe log is intact\n"
        f"to prove it later, keep this elsewhere: qlp log verify --expect {head}\n",
    )
    compared = await qlp(
        *("log", "verify", "--expect", head, "--key", str(key), "--since", "1"), url=database.url
    )
    assert (compared.code, "1 of them kept elsewhere" in compared.out) == (0, True)
    (other := tmp_path / "other.pem").write_text(
        PublicKey.parse(new_key(tmp_path, "another").read_text()).pem
    )
    said = await qlp("log", "verify", "--key", str(other), "--json", url=database.url)
    assert [(f["kind"], f["seal"]) for f in said.json["findings"]] == [("seal untrusted", 1)]
    forged = f"1:{'0' * 64}"
    said = await qlp("log", "verify", "--expect", forged, "--json", url=database.url)
    assert [(f["kind"], f["seal"]) for f in said.json["findings"]] == [("anchor differs", 1)]
    for wrong in ("1", "x:y", f"0:{'0' * 64}", "1:abc", f"{2**63}:{'0' * 64}"):
        said = await qlp("log", "verify", "--expect", wrong, url=database.url)
        assert (said.code, "must be a seal's number" in said.err) == (2, True)
    said = await qlp("log", "verify", "--since", "7", url=database.url)
    assert (said.code, said.err) == (1, "qlp: --since 7: there is no seal 7 from which to begin\n")
    said = await qlp("log", "verify", "--key", str(tmp_path / "none"), url=database.url)
    assert (said.code, "No such file" in said.err) == (2, True)
    said = await qlp("log", "verify", "--key", __file__, url=database.url)
    assert (said.code, "is not a PEM file" in said.err) == (2, True)
    tamper(database, "update events set type = E'Other\\u001b[2J' where type = 'IntentPlanned'")
    event = (await EventLog(pool).read_stream(stream))[1]

    said = await qlp("log", "verify", "--json", url=database.url)
    assert said.code == 1
    [finding] = said.json["findings"]
    assert finding["kind"] == "event changed"
    assert (finding["seal"], finding["stream_id"], finding["version"]) == (1, stream, 2)
    assert (finding["event_id"], finding["lane"]) == (str(event.event_id), lane_of(stream))

    table = await qlp("log", "verify", url=database.url)
    assert table.code == 1
    assert "event changed" in table.out
    assert "\x1b" not in table.out


@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 12:00Z BC", "12000-01-01Z"])
async def test_a_time_that_only_postgresql_has_hides_nothing(
    pool: AsyncConnectionPool, database: Database, tmp_path: Path, time: str
) -> None:
    stream = await sealed(pool)
    tamper(database, f"update events set recorded_at = '{time}' where version = 2")
    said = await qlp("log", "verify", "--json", url=database.url)
    assert said.code == 1
    assert [(each["kind"], each["version"]) for each in said.json["findings"]] == [
        ("event changed", 2)
    ]
    shown = await qlp("streams", "show", stream, url=database.url)
    assert (shown.code, "IntentPlanned" in shown.out) == (0, True)
    export = await qlp("events", "export", str(tmp_path / "log.jsonl"), url=database.url)
    assert export.code == 0


async def test_seals_that_were_kept_show_that_they_are_gone(
    pool: AsyncConnectionPool, database: Database, tmp_path: Path
) -> None:
    await sealed(pool)
    await sealed(pool)
    shown = await qlp("log", "seals", "--json", url=database.url)
    assert [(each["seal"], each["events"]) for each in shown.json["items"]] == [(2, 10), (1, 5)]
    kept = await qlp("log", "seals", "--text", url=database.url)
    assert kept.out.splitlines() == [each["text"] for each in reversed(shown.json["items"])]
    (anchor := tmp_path / "seals.jws").write_text(kept.out)
    compared = await qlp("log", "verify", "--anchor", str(anchor), url=database.url)
    assert "in 2 seals, 2 of them kept elsewhere" in compared.out
    tamper(
        database,
        "delete from seals where seq = 2; update seal_progress set seq = 1;"
        "delete from seal_heads where seq = 2",
    )
    assert (await qlp("log", "verify", url=database.url)).code == 0
    said = await qlp("log", "verify", "--anchor", str(anchor), "--json", url=database.url)
    assert said.code == 1
    assert [(f["kind"], f["seal"]) for f in said.json["findings"]] == [("seal removed", 2)]


async def test_an_anchor_that_holds_nothing_is_an_error(database: Database, tmp_path: Path) -> None:
    (empty := tmp_path / "seals").write_text("what is this?\n")
    said = await qlp("log", "verify", "--anchor", str(empty), url=database.url)
    assert (said.code, "holds no seal" in said.err) == (1, True)
    missing = await qlp("log", "verify", "--anchor", str(tmp_path / "none"), url=database.url)
    assert (missing.code, "No such file" in missing.err) == (1, True)
    wrong = await qlp("log", "verify", "--anchor", "https://x/a/b/c?sig=hidden", url=database.url)
    assert (wrong.code, "must be a container" in wrong.err) == (2, True)
    assert "hidden" not in wrong.err


async def test_an_event_is_proved_and_a_page_of_python_checks_it(
    pool: AsyncConnectionPool, database: Database, tmp_path: Path
) -> None:
    key = new_key(tmp_path)
    stream = await sealed(pool, key)
    [event, *_] = await EventLog(pool).read_stream(stream)
    said = await qlp("log", "prove", str(event.event_id), url=database.url)
    assert (said.code, "is covered by seal 1, which is signed" in said.out) == (0, True)
    proved = await qlp("log", "prove", str(event.event_id), "--json", url=database.url)
    (proof := tmp_path / "proof.json").write_text(proved.out)
    page = ROOT / "docs/security/check_proof.py"
    command = [sys.executable, "-I", str(page), str(proof)]
    checked = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True
    )
    assert checked.stdout.startswith(
        f"event {event.event_id} in stream {stream} is covered by seal 1 of 20"
    )
    whole = json.loads(proved.out)
    for malformed in malformed_proofs(whole):
        proof.write_text(malformed)
        refused = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False
        )
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("not proved: "), malformed[:80]
        assert "Traceback" not in refused.stderr
    none = await qlp("log", "prove", str(uuid4()), url=database.url)
    assert (none.code, "no event" in none.err) == (1, True)
    wrong = await qlp("log", "prove", "nonsense", url=database.url)
    assert (wrong.code, wrong.err) == (1, "qlp: 'nonsense' is not an id\n")


def malformed_proofs(proof: dict[str, Any]) -> list[str]:
    event = proof["event"]
    odd: list[dict[str, Any]] = [
        *({"lane": "7"}, {"lane": 2**40}, {"path": 3}, {"path": []}, {"seal": "a.b"}),
        *({"seal": None}, {"following": ["zz"]}, {"public_key": "x"}, {"event": None}),
        {"event": {**event, "recorded_at_microseconds": 2**63}},
        {"event": {**event, "event_id": "1"}},
        {"event": {**event, "version": None}},
    ]
    incomplete = [{key: value for key, value in proof.items() if key != name} for name in proof]
    del incomplete[[*proof].index("format")]  # which nothing is concluded from
    return ["no json", "[]", *map(json.dumps, [{**proof, **each} for each in odd]),
            *map(json.dumps, incomplete)]  # fmt: skip


async def test_followers_are_shown_with_the_lanes_in_which_they_are_behind(
    pool: AsyncConnectionPool, database: Database
) -> None:
    none = await qlp("log", "followers", url=database.url)
    assert (none.code, "nothing follows the log yet" in none.out) == (0, True)
    intent_id = await Recorder(pool).submitted()
    projections = Projections(pool)
    await projections.run_until_caught_up()
    await EventLog(pool).append(
        f"intent-{intent_id}", "acme", 1, uuid4(), [NewEvent(uuid4(), "Other", 1, {})], {}
    )
    said = await qlp("log", "followers", "--json", url=database.url)
    lane = lane_of(f"intent-{intent_id}")
    for item in said.json["items"]:
        assert item["name"] in ("projection:usage_daily", "projection:error_patterns")
        assert (item["lag_events"], item["oldest_lane"]) == (1, lane)
        [behind] = item["lanes"]
        assert (behind["lane"], behind["events"], behind["seconds"] > 0) == (lane, 1, True)
    assert len(said.json["items"]) == 2
    told = await qlp("log", "followers", url=database.url)
    assert f"{lane}" in told.out
    assert "projection:usage_daily" in told.out
