"""``qlp projections`` as an operator and a script run it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.intent_streams import stream_of
from domain.projections.following.contract import StreamEvent
from domain.projections.following.runner import Runner
from domain.projections.following.usage_daily import UsageChange, UsageDaily
from domain.projections.registry import NAMES, Projections
from tests.support.intents.histories import Histories, table
from tests.support.postgres import Database
from tests.support.qlp import Said, run_qlp


def environment_of(database: Database, owner: bool) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DATABASE")}
    environment |= {"DATABASE_URL": database.url, "COLUMNS": "250"}
    return environment | ({"DATABASE_ADMIN_URL": database.admin_url} if owner else {})


async def start(database: Database, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "domain.operations", "projections", *arguments),
        env=environment_of(database, owner=True),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def qlp(database: Database, *arguments: str, owner: bool = True) -> Said:
    return await run_qlp("projections", *arguments, environment=environment_of(database, owner))


async def test_the_list_says_how_far_each_projection_is_behind(
    pool: AsyncConnectionPool, database: Database
) -> None:
    await Histories.over(pool).succeeded()
    behind = (await qlp(database, "list", "--json")).json["items"]
    assert {item["name"]: item["lag_events"] for item in behind} == {
        "intent_states": 0,
        "usage_daily": 5,
        "error_patterns": 5,
    }
    await Projections(pool).run_until_caught_up()
    shown = await qlp(database, "list")
    assert shown.code == 0
    assert "usage_daily" in shown.out
    assert "5" not in shown.out.replace("usage_daily", "")


@pytest.mark.parametrize("name", ["intent_states", "usage_daily"])
async def test_a_rebuild_that_was_killed_goes_on_where_it_was(
    pool: AsyncConnectionPool, database: Database, name: str
) -> None:
    await Histories.over(pool).mixture(20)
    await Projections(pool).run_until_caught_up()
    [[events]] = await table(pool, b"select count(*) from events")
    doomed = await start(database, "rebuild", name, "--rate", "40", "--yes", "--json")
    assert doomed.stdout is not None
    async for line in doomed.stdout:
        if json.loads(line)["events"] >= 40:
            break
    doomed.kill()
    assert await doomed.wait() == -signal.SIGKILL

    planned = (await qlp(database, "rebuild", name, "--dry-run", "--json")).json["would_rebuild"]
    assert planned["done"] >= 40
    said = await qlp(database, "rebuild", name, "--yes", "--json")
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert lines[-1]["events"] == events
    assert lines[-1]["resumed_from"] >= planned["done"]
    assert {line["resumed_from"] for line in lines} == {lines[-1]["resumed_from"]}
    assert (await qlp(database, "verify", name)).code == 0


async def test_a_rebuild_asks_first_and_a_dry_run_changes_nothing(
    pool: AsyncConnectionPool, database: Database
) -> None:
    await Histories.over(pool).mixture(1)
    before = await table(pool, b"select 'intent_states'::regclass::oid")
    dry = await qlp(database, "rebuild", "intent_states", "--dry-run")
    assert dry.out == "would rebuild intent_states (intent_states) from 17 events\n"
    unasked = await qlp(database, "rebuild", "intent_states")
    assert (unasked.code, unasked.out) == (1, "")
    assert "--yes" in unasked.err
    assert await table(pool, b"select 'intent_states'::regclass::oid") == before
    done = await qlp(database, "rebuild", "intent_states", "--yes")
    assert done.out == "rebuilt intent_states from 17 events\n"
    assert await table(pool, b"select 'intent_states'::regclass::oid") != before


async def test_a_rebuild_with_the_applications_login_says_which_one_it_needs(
    pool: AsyncConnectionPool, database: Database
) -> None:
    refused = await qlp(database, "rebuild", "usage_daily", "--yes", owner=False)
    assert refused.code == 1
    assert "DATABASE_ADMIN_URL" in refused.err


@pytest.mark.parametrize("name", NAMES)
async def test_verification_goes_well_with_writers_and_runners(
    pool: AsyncConnectionPool, database: Database, name: str
) -> None:
    histories, projections, done = Histories.over(pool), Projections(pool), asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await histories.succeeded()

    async def follow() -> None:
        while not done.is_set():
            await projections.run_until_caught_up()

    at_work = [asyncio.create_task(each()) for each in (write, write, follow)]
    said = await qlp(database, "verify", name)
    done.set()
    await asyncio.gather(*at_work)
    assert (said.code, said.err) == (0, "")


async def test_verification_shows_what_differs_and_exits_with_1(
    pool: AsyncConnectionPool, database: Database
) -> None:
    await Histories.over(pool).mixture(6)
    right = await qlp(database, "verify", "intent_states", "--sample", "5", "--json")
    assert (right.code, right.json["differing"]) == (0, 0)
    with psycopg.connect(database.admin_url) as someone:
        someone.execute("update intent_states set user_input = E'\\x1b[2Jgone'")
    wrong = await qlp(database, "verify", "intent_states", "--json")
    assert (wrong.code, wrong.json["differing"], len(wrong.json["differences"])) == (1, 30, 20)
    assert wrong.json["differences"][0]["folded"] == {"user_input": "print one"}
    shown = await qlp(database, "verify", "intent_states")
    assert shown.code == 1
    assert "events say 'print one'" in shown.out
    assert "… and 10 more" in shown.out
    assert "\x1b" not in shown.out


class Refusing(UsageDaily):
    """Code with a mistake, which the next release does not have."""

    def fold(self, event: StreamEvent) -> UsageChange | None:
        if event.record.version == 4:
            raise ValueError("a mistake")
        return super().fold(event)


async def test_parked_streams_are_shown_and_resumed(
    pool: AsyncConnectionPool, database: Database
) -> None:
    histories = Histories.over(pool)
    streams = sorted([stream_of(await histories.succeeded()) for _ in range(2)])
    await Runner(pool, Refusing()).run_until_caught_up()
    parked = (await qlp(database, "parked", "--json")).json["items"]
    assert sorted(item["stream_id"] for item in parked) == streams
    assert {item["error"] for item in parked} == {"ValueError: a mistake"}
    assert "2 streams are parked" in (await qlp(database, "list")).out
    dry = await qlp(database, "resume", "usage_daily", "--dry-run")
    assert dry.out.count("would resume") == 2
    one = await qlp(database, "resume", "usage_daily", streams[0], "--yes", "--json")
    assert one.json == {"resumed": [streams[0]], "parked": []}
    rest = await qlp(database, "resume", "usage_daily", "--yes")
    assert (rest.code, rest.out) == (0, f"resumed {streams[1]}\n")
    assert (await qlp(database, "verify", "usage_daily")).code == 0


async def test_a_stream_that_fails_again_is_said_and_exits_with_1(
    pool: AsyncConnectionPool, database: Database
) -> None:
    bad = stream_of(await Histories.over(pool).succeeded())
    with psycopg.connect(database.admin_url) as someone:
        someone.execute("alter table events disable trigger events_immutable")
        someone.execute("update events set data = '{}' where version = 4")
    await Projections(pool).run_until_caught_up()
    said = await qlp(database, "resume", "usage_daily", "--yes")
    assert said.code == 1
    assert f"still parked: {bad}: UnreadableEvent: " in said.out


async def test_mistakes_are_one_line_and_exit_with_1(database: Database) -> None:
    for arguments in (
        ("rebuild", "nonsense", "--yes"),
        ("verify", "nonsense"),
        ("verify", "usage_daily", "--sample", "3"),
        ("parked", "nonsense"),
        ("resume", "nonsense"),
        ("resume", "usage_daily", "nonsense", "--yes"),
    ):
        said = await qlp(database, *arguments)
        assert (said.code, said.out) == (1, ""), arguments
        assert said.err.startswith("qlp: "), arguments
        assert len(said.err.splitlines()) == 1, said.err
