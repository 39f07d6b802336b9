"""``qlp events``: watching, exporting and importing as operators and scripts do it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.heads import Heads
from domain.eventlog.lanes import LANES
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.eventlog.scan import Filter
from domain.operations.tail import Tail
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp, qlp_with_stdin
from tests.support.waiting import until


@asynccontextmanager
async def tail(
    database: Database, *arguments: str, to: int = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "domain.operations", "events", "tail", *arguments),
        env={**os.environ, "DATABASE_URL": database.url},
        stdout=to,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(90):
        return (await process.stdout.readline()).decode()


async def append(pool: AsyncConnectionPool, stream: str, version: int, type_: str = "T") -> None:
    event = NewEvent(uuid4(), type_, 1, {"at": "now"})
    await EventLog(pool).append(stream, "acme", version, uuid4(), [event], {})


async def test_tail_shows_events_as_they_come_and_ctrl_c_ends_it_with_0(
    pool: AsyncConnectionPool, database: Database
) -> None:
    await append(pool, "before\x1b[2J", 0)
    async with tail(database, "--from", "start") as process:
        assert r"before\x1b[2J" in await line(process)
        await append(pool, "after", 0)
        assert (await line(process)).split()[2:] == ["acme", "after", "1", "T"]
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (process.returncode, out, err) == (0, b"", b"")


async def test_tail_says_on_a_terminal_that_it_waits_and_ends_with_it(database: Database) -> None:
    terminal, output = os.openpty()
    async with tail(database, to=output) as process:
        os.close(output)
        assert process.stderr is not None
        async with asyncio.timeout(60):
            assert await process.stderr.readline() == b"waiting for events; Ctrl-C ends\n"
            os.close(terminal)
            assert await process.wait() == 0


async def test_tail_writes_cloudevents_of_a_stream_from_a_version_for_scripts(
    pool: AsyncConnectionPool, database: Database
) -> None:
    for version in range(3):
        await append(pool, "s", version, f"T{version}")
    arguments = ("--stream", "s", "--from", "2", "--type", "T2", "--json")
    async with tail(database, *arguments) as process:
        event = json.loads(await line(process))
        assert (event["subject"], event["streamversion"], event["type"]) == ("s", 3, "qlp.T2")
        assert event["data"] == {"at": "now"}


async def test_tail_takes_the_id_of_an_intent_and_says_what_is_not_there_yet(
    pool: AsyncConnectionPool, database: Database
) -> None:
    intent_id = await Recorder(pool).submitted()
    async with tail(database, "--stream", str(intent_id), "--from", "start", "--json") as process:
        assert json.loads(await line(process))["subject"] == f"intent-{intent_id}"
    unknown = uuid4()
    for option, value, says in (
        ("--stream", str(unknown), f"the stream intent-{unknown} has no events so far"),
        ("--tenant", "nobody", "the tenant nobody has no events so far"),
    ):
        async with tail(database, option, value, "--json") as process:
            assert process.stderr is not None
            async with asyncio.timeout(60):
                assert await process.stderr.readline() == f"{says}\n".encode()
            process.send_signal(signal.SIGINT)
            out, _ = await process.communicate()
            assert (process.returncode, out) == (0, b"")


async def test_tail_waits_for_what_may_still_come_before(
    pool: AsyncConnectionPool, database: Database
) -> None:
    watching = Tail(pool, lambda: False)
    seen: list[str] = []

    async def watch() -> None:
        async for event in watching.log(Filter(), from_start=True):
            seen.append(event.stream_id)
            if len(seen) == 2:
                watching.stop()

    async with await psycopg.AsyncConnection.connect(database.admin_url) as slow:
        await slow.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, metadata, data) values (gen_random_uuid(), 'first', 1, 'T', 1, 'acme',
            gen_random_uuid(), '{}', '{}')"""
        )
        await append(pool, "second", 0)
        watched = asyncio.create_task(watch())
        await until(lambda: seen)  # what is in another lane waits for nothing
        assert seen == ["second"]
        await slow.commit()
    async with asyncio.timeout(60):
        await watched
    assert seen == ["second", "first"]


async def test_what_is_exported_can_be_looked_at_and_imported_once(
    pool: AsyncConnectionPool, database: Database, target: Database, tmp_path: Path
) -> None:
    await Recorder(pool).finished()
    path = tmp_path / "events.jsonl"
    said = await qlp("events", "export", str(path), "--tenant", "acme", "--json", url=database.url)
    assert said.json["events"] == 5
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = await qlp("events", "export", str(path), url=database.url)
    advice = "choose another name, or - for standard output\n"
    assert (again.code, again.err) == (1, f"qlp: {path}: there is a file of this name; {advice}")
    folder = await qlp("events", "export", str(tmp_path), url=database.url)
    complaint = f"qlp: {tmp_path}: there is a folder of this name; {advice}"
    assert (folder.code, folder.err) == (1, complaint)
    piped = await qlp("events", "export", "--after", said.json["next"], url=database.url)
    assert json.loads(piped.out)["trailer"]["events"] == 0
    await check_import(path, target.url, target.admin_url)


async def check_import(path: Path, url: str, admin_url: str) -> None:
    async def run(*options: str, **settings: str) -> Any:
        return await qlp("events", "import", str(path), *options, url=url, **settings)

    unsure = await run(DATABASE_ADMIN_URL=admin_url)
    assert (unsure.code, "use --yes" in unsure.err) == (1, True)
    dry = await run("--dry-run", DATABASE_ADMIN_URL=admin_url)
    assert (dry.code, "5 are new" in dry.err) == (0, True)
    assert "nothing was imported" in dry.err
    powerless = await run("--yes")
    if url != admin_url:
        assert (powerless.code, "DATABASE_ADMIN_URL" in powerless.err) == (1, True)
    done = await run("--yes", "--json", DATABASE_ADMIN_URL=admin_url)
    assert (done.json["new"], done.json["rows"], done.json["unfinished"]) == (5, 1, 0)
    twice = await run("--yes", "--json", DATABASE_ADMIN_URL=admin_url)
    assert (twice.json["new"], twice.json["staged"]["known"]) == (0, 5)
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    writing = asyncio.create_task(asyncio.to_thread(pipe.write_bytes, path.read_bytes()))
    piped = await qlp(
        "events", "import", str(pipe), "--yes", "--json", url=url, DATABASE_ADMIN_URL=admin_url
    )
    await writing
    assert (piped.code, piped.json["staged"]["known"]) == (0, 5)
    arguments = ("events", "import", "-", "--yes", "--json")
    read = await qlp_with_stdin(
        path.read_bytes(), *arguments, url=url, DATABASE_ADMIN_URL=admin_url
    )
    assert (read.code, read.json["staged"]["known"]) == (0, 5)
    resumed = await qlp("events", "import", "--resume", url=url, DATABASE_ADMIN_URL=admin_url)
    assert (resumed.code, "no import broke off" in resumed.err) == (0, True)
    given_up = await run("--give-up", "--yes", DATABASE_ADMIN_URL=admin_url)
    assert (given_up.code, "takes no file" in " ".join(given_up.err.split())) == (2, True)
    options = ("events", "import", "--give-up", "--yes", "--json")
    given_up = await qlp(*options, url=url, DATABASE_ADMIN_URL=admin_url)
    assert (given_up.code, given_up.json) == (0, {"given_up": False})
    unasked = await qlp("events", "import", "--give-up", url=url, DATABASE_ADMIN_URL=admin_url)
    assert (unasked.code, "no import broke off" in unasked.err) == (0, True)
    stdin = gzip.compress(path.read_bytes())
    packed = await qlp_with_stdin(stdin, *arguments, url=url, DATABASE_ADMIN_URL=admin_url)
    assert (packed.code, "gunzip -c" in packed.err) == (1, True)


async def test_an_export_names_the_command_for_what_follows_with_its_filters(
    database: Database, tmp_path: Path
) -> None:
    path = str(tmp_path / "some events")
    filters = ("--tenant", "acme", "--type", "Intent*", "--type", "T")
    said = await qlp("events", "export", path, *filters, url=database.url)
    command = f"qlp events export --after '{path}' --tenant acme --type 'Intent*' --type T FILE"
    assert said.err.splitlines()[-1] == f"what is recorded from now on: {command}"


async def test_a_dry_run_says_that_a_file_lacks_what_only_this_log_has(
    pool: AsyncConnectionPool, database: Database, tmp_path: Path
) -> None:
    await Recorder(pool).finished()
    path = str(tmp_path / "events.jsonl")

    async def looked_at(*filters: str) -> Any:
        assert (await qlp("events", "export", path, *filters, url=database.url)).code == 0
        arguments = ("events", "import", path, "--dry-run")
        said = await qlp(*arguments, url=database.url, DATABASE_ADMIN_URL=database.admin_url)
        assert (said.code, "nothing was imported" in said.err) == (0, True)
        Path(path).unlink()
        return said

    partial = await looked_at("--type", "*Run*")
    assert "1 streams of the file lack versions that this log has" in partial.err
    assert "complete" not in partial.err
    assert "the file is complete and can be imported" in (await looked_at()).err


async def test_one_odd_event_stops_none_of_the_commands_that_read_every_event(
    pool: AsyncConnectionPool, database: Database, tmp_path: Path
) -> None:
    await Recorder(pool).finished()
    odd = uuid4()
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        owner.execute(
            """insert into events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, metadata, data) values (gen_random_uuid(), %s, 1, 'IntentSubmitted', 1,
            'acme', gen_random_uuid(), '[]', '{"text": "\\ud800"}')""",
            [f"intent-{odd}"],
        )
    url = database.url
    written = await qlp("events", "export", str(tmp_path / "export"), url=url)
    assert (written.code, f"intent-{odd}, event 1" in written.err) == (0, True)
    assert "1 have data that only PostgreSQL takes" in written.err
    async with tail(database, "--stream", f"intent-{odd}", "--from", "1", "--json") as process:
        shown = json.loads(await line(process))
        assert (shown["storeddata"], "data" in shown) == ('{"text": "\\ud800"}', False)
    for options in ((), ("--json",)):
        said = await qlp("streams", "show", str(odd), *options, url=url)
        assert (said.code, "\\ud800" in said.out) == (0, True)
    replayed = await qlp("streams", "replay", str(odd), url=url)
    assert (replayed.code, f"intent-{odd}, event 1" in replayed.err) == (1, True)
    for arguments in (
        ("log", "verify"),
        ("projections", "verify", "intent_states"),
        ("projections", "verify", "usage_daily"),
        ("replay", "--where", "tenant=acme", "--yes"),
    ):
        assert (await qlp(*arguments, url=url)).code == 0, arguments
    rebuilt = await qlp(
        *("projections", "rebuild", "intent_states", "--yes"),
        url=url,
        DATABASE_ADMIN_URL=database.admin_url,
    )
    assert (rebuilt.code, "1 streams are parked" in rebuilt.out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("tail", "--from", "3"), "a version needs --stream"),
        (("tail", "--from", "soon", "--stream", "s"), "must be now, start or a version"),
        (("tail", "--stream", "bad"), "'bad' is not an id"),
        (("tail", "--type", "bad type["), "--type 'bad type[' matches no event"),
        (("tail", "--tenant", "Acme"), "'Acme' is not the id of a tenant"),
        (("export", "--after", "x"), "No such file or directory; it must be an export's file"),
        (("export", "--after", "h1.x"), "'next' of an export's trailer was cut off, or changed"),
        (("export", "--after", __file__), "the last line is no trailer"),
        (("export", "--type", ""), "type: must not be empty"),
        (("import", "/nowhere/export", "--yes"), "there is no such file"),
        (("import", "/tmp", "--yes"), "/tmp: is a folder"),
        (("import", "/dev/zero", "--yes"), "is neither a file nor a pipe"),
        (("import", "-", "--yes"), "is neither a file nor a pipe"),
        (("import", "-"), "nobody can confirm"),
        (("import", "--yes"), "name the file of an export"),
        (("import", "export", "--resume"), "takes no file"),
        (("export", "--after", "9:9"), "'next' of its trailer if that begins with h1."),
        (("export", "--after", str(Heads((9,) * LANES))), "lies beyond the end of this log"),
    ],
)
async def test_mistakes_are_said_and_nothing_is_done(
    database: Database, arguments: tuple[str, ...], complaint: str
) -> None:
    said = await qlp("events", *arguments, url=database.url)
    assert said.code in (1, 2)
    assert said.out == ""
    assert complaint in " ".join(said.err.replace("│", " ").split())
