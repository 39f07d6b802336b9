"""``qlp log``: an operator, and a script, learn whether the log is what it was."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.checkpoints import CheckpointStore
from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.eventlog.seals import Sealer, SealReads
from domain.projections.registry import Projections
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp


async def sealed(pool: AsyncConnectionPool) -> str:
    """The stream of a sealed intent."""
    intent_id = await Recorder(pool).finished()
    await Sealer(CheckpointStore(pool)).run_until_caught_up()
    return f"intent-{intent_id}"


def tamper(database: Database, statement: str) -> None:
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute(statement.encode())


async def test_a_changed_event_is_named_and_the_exit_code_is_1(
    pool: AsyncConnectionPool, database: Database
) -> None:
    stream = await sealed(pool)
    await Recorder(pool).submitted()
    [kept] = await SealReads(pool).heads(1)
    head = f"{kept.seq}:{kept.digest}"
    intact = await qlp("log", "verify", url=database.url)
    assert (intact.code, intact.out) == (
        0,
        "verified 5 events in 1 seals; 1 events are not sealed yet\nthe log is intact\n"
        f"to prove it later, keep this elsewhere: qlp log verify --expect {head}\n",
    )
    compared = await qlp("log", "verify", "--expect", head, url=database.url)
    assert (compared.code, "in 1 seals, 1 exported heads" in compared.out) == (0, True)
    forged = f"1:{'0' * 64}"
    said = await qlp("log", "verify", "--expect", forged, "--json", url=database.url)
    assert [(f["kind"], f["seal"]) for f in said.json["findings"]] == [("head differs", 1)]
    for wrong in ("1", "x:y", f"0:{'0' * 64}", "1:abc", f"{2**63}:{'0' * 64}"):
        said = await qlp("log", "verify", "--expect", wrong, url=database.url)
        assert (said.code, "must be a seal's number" in said.err) == (2, True)
    tamper(database, "update events set type = E'Other\\u001b[2J' where type = 'IntentPlanned'")
    event = (await EventLog(pool).read_stream(stream))[1]

    said = await qlp("log", "verify", "--json", url=database.url)
    assert said.code == 1
    [finding] = said.json["findings"]
    assert finding["kind"] == "event changed"
    assert (finding["seal"], finding["stream_id"], finding["version"]) == (1, stream, 2)
    assert (finding["event_id"], finding["position"]) == (str(event.event_id), event.position)

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


async def test_exported_heads_show_that_seals_are_gone(
    pool: AsyncConnectionPool, database: Database, tmp_path: Path
) -> None:
    await sealed(pool)
    await sealed(pool)
    exported = await qlp("log", "heads", "--json", url=database.url)
    assert [head["seq"] for head in exported.json["items"]] == [2, 1]
    (heads := tmp_path / "heads.json").write_text(exported.out)
    compared = await qlp("log", "verify", "--heads", str(heads), url=database.url)
    assert "in 2 seals, 2 exported heads" in compared.out
    tamper(database, "delete from seals where seq = 2")
    tamper(database, "delete from checkpoints where name = 'seals'")
    assert (await qlp("log", "verify", url=database.url)).code == 0
    said = await qlp("log", "verify", "--heads", str(heads), "--json", url=database.url)
    assert said.code == 1
    assert [(f["kind"], f["seal"]) for f in said.json["findings"]] == [("seal removed", 2)]


async def test_a_file_that_holds_no_heads_is_refused_with_its_field(
    database: Database, tmp_path: Path
) -> None:
    wrong = {"items": [{"seq": 1, "digest": "abc"}]}
    (path := tmp_path / "heads.json").write_text(json.dumps(wrong))
    said = await qlp("log", "verify", "--heads", str(path), url=database.url)
    assert (said.code, said.out) == (1, "")
    assert "items.0.digest" in said.err
    missing = await qlp("log", "verify", "--heads", str(tmp_path / "none"), url=database.url)
    assert missing.code == 1
    assert "No such file" in missing.err


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
