"""``qlp runs`` and ``qlp tenants limits``, as an operator runs them."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.limits import LimitsStore
from domain.access.store import ApiKeys
from domain.intents.run_decisions import run_id_of
from domain.runs.status import RunStatuses
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp


@pytest.fixture
def recorder(pool: AsyncConnectionPool) -> Recorder:
    return Recorder(pool)


async def test_runs_are_listed_and_with_running_only_those_in_progress(
    recorder: Recorder, database: Database
) -> None:
    done, running = await recorder.finished(runtime="docker"), await recorder.running()
    await recorder.submitted()
    listed = (await qlp("runs", "list", "--json", url=database.url)).json["items"]
    assert [(run["intent_id"], run["state"], run["runtime"]) for run in listed] == [
        (str(running), "running", None),
        (str(done), "succeeded", "docker"),
    ]
    only = (await qlp("runs", "list", "--running", "--json", url=database.url)).json["items"]
    assert [run["run_id"] for run in only] == [str(run_id_of(running, 1))]
    other = await qlp("runs", "list", "--tenant", "other", "--json", url=database.url)
    assert other.json["items"] == []
    assert str(running) in (await qlp("runs", "list", url=database.url)).out


@pytest.mark.parametrize("by", ["intent", "run"])
async def test_a_kill_is_recorded_once_with_who_and_why(
    recorder: Recorder, database: Database, pool: AsyncConnectionPool, by: str
) -> None:
    intent_id = await recorder.running()
    some_id = str(intent_id if by == "intent" else run_id_of(intent_id, 1))
    kill = ("runs", "kill", some_id, "--reason", "too hot", "--json")

    looked = await qlp(*kill, "--dry-run", url=database.url)
    assert looked.json["dry_run"] is True
    assert not (await RunStatuses(pool).of([intent_id]))[intent_id].latest.unwanted
    nobody_agreed = await qlp(*kill, url=database.url)
    assert (nobody_agreed.code, "--yes" in nobody_agreed.err) == (1, True)

    for _ in range(2):
        assert (await qlp(*kill, "--yes", url=database.url)).code == 0
    history = await recorder.repository.history(intent_id)
    kills = [record.data for record in history if record.type == "SandboxRunKillRequested"]
    assert [(each["reason"], " on " in each["operator"]) for each in kills] == [("too hot", True)]
    [listed] = (await qlp("runs", "list", "--json", url=database.url)).json["items"]
    assert listed["state"] == "to be killed"


async def test_what_does_not_run_cannot_be_killed(recorder: Recorder, database: Database) -> None:
    for some_id in (await recorder.finished(), await recorder.submitted(), uuid4()):
        said = await qlp("runs", "kill", str(some_id), "--reason", "x", "--yes", url=database.url)
        assert (said.code, "no run in progress" in said.err) == (1, True)


async def test_limits_are_set_shown_and_unset(
    pool: AsyncConnectionPool, database: Database
) -> None:
    await ApiKeys(pool).ensure_tenant("acme")
    change = ("tenants", "limits", "set", "acme", "--json")
    both = ("--default", "wall_seconds=5", "--ceiling", "wall_seconds=20")
    looked = await qlp(*change, *both, "--dry-run", url=database.url)
    assert looked.json["ceilings"] == {"wall_seconds": 20.0}
    assert (await LimitsStore(pool).of("acme")).updated_at is None

    await qlp(*change, *both, "--ceiling", "processes=8", "--yes", url=database.url)
    await qlp(*change, "--default", "wall_seconds=", "--yes", url=database.url)
    shown = (await qlp("tenants", "limits", "show", "acme", "--json", url=database.url)).json
    assert shown["defaults"] == {}
    assert shown["ceilings"] == {"wall_seconds": 20.0, "processes": 8}
    assert (shown["gets"]["wall_seconds"], shown["gets"]["processes"]) == (10.0, 8)
    known = await LimitsStore(pool).of("acme")
    assert known.updated_at is not None
    assert known.updated_at <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("acme", "--ceiling", "colour=1"), "colour"),
        (("acme", "--ceiling", "wall_seconds=301"), "wall_seconds"),
        (("acme", "--default", "memory_bytes=x"), "memory_bytes"),
        (("acme", "--default", "memory_bytes=2_68435456"), "memory_bytes"),
        (("acme", "--default", "processes=true"), "processes"),
        (("acme", "--default", "wall_seconds=NaN"), "wall_seconds"),
        (("acme", "--default", 'processes="4"'), "processes"),
        (("nobody", "--ceiling", "processes=1"), "no tenant"),
        (("acme",), "give what to change: --default NAME=VALUE or --ceiling NAME=VALUE"),
    ],
)
async def test_a_wrong_limit_is_named(
    pool: AsyncConnectionPool, database: Database, arguments: tuple[str, ...], says: str
) -> None:
    await ApiKeys(pool).ensure_tenant("acme")
    said = await qlp("tenants", "limits", "set", *arguments, "--yes", url=database.url)
    assert (said.code, says in said.err) == (1, True), said
