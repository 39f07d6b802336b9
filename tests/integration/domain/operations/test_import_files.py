"""Several exports are imported at once, as if they were one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import open_pool
from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.heads import Heads
from domain.eventlog.log import EventLog
from domain.eventlog.staging import ImportRefused
from domain.eventlog.transfer import ExportWriter, InvalidExport
from domain.operations import import_files
from domain.operations.log_integrity import LogVerifier
from domain.operations.transfer import import_events
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database, everything
from tests.support.qlp import qlp


@pytest.fixture
async def target_pool(target: Database) -> AsyncIterator[AsyncConnectionPool]:
    opened = await open_pool(target.url, min_size=1, max_size=4, application_name="tests")
    yield opened
    await opened.close()


def told(log: list[Any]) -> list[tuple[Any, ...]]:
    return sorted((event.stream_id, event.version, event.event_id) for event in log)


async def test_an_export_and_those_after_it_are_imported_at_once(
    database: Database,
    pool: AsyncConnectionPool,
    target: Database,
    target_pool: AsyncConnectionPool,
    tmp_path: Path,
) -> None:
    recorder = Recorder(pool)
    paths = [str(tmp_path / name) for name in ("first", "second", "third")]
    after: tuple[str, ...] = ()
    for path in paths:
        await recorder.running()
        await recorder.finished()
        assert (await qlp("events", "export", path, *after, url=database.url)).code == 0
        after = ("--after", path)

    async def imported(*files: str) -> Any:
        arguments = ("events", "import", *files, "--yes", "--json")
        return await qlp(*arguments, url=target.url, DATABASE_ADMIN_URL=target.admin_url)

    done = await imported(*paths)
    assert done.code == 0, done.err
    events = await everything(EventLog(pool))
    assert done.json["new"] == len(events)
    assert told(await everything(EventLog(target_pool))) == told(events)
    again = await imported(*paths)
    assert again.json["new"] == 0
    os.mkfifo(pipe := tmp_path / "pipe")
    for files, complaint in (
        ((paths[0], paths[0]), f"{paths[0]}: line 1: id: the same as on {paths[0]}: line 1"),
        ((paths[0], str(tmp_path)), f"{tmp_path}: is a folder"),
        ((paths[0], str(pipe)), f"{pipe}: is a pipe"),
        ((paths[0], "-"), "several files are read at once, and - cannot be one of them"),
        ((paths[0], str(tmp_path / "none")), "there is no such file"),
    ):
        refused = await imported(*files)
        assert refused.code != 0
        assert complaint in " ".join(refused.err.replace("│", " ").split())


def stored(stream_id: str, version: int) -> StoredEvent:
    moment = datetime.now(UTC)
    event = StoredEvent(
        uuid4(), stream_id, version, "T", 1, "acme", uuid4(), moment, "{}", '{"b":2}', b""
    )
    return event._replace(digest=event_digest(event))


def write_export(path: Path, events: Iterable[StoredEvent]) -> str:
    writer = ExportWriter()
    path.write_bytes(b"".join([*map(writer.line, events), writer.trailer(Heads.start())]))
    return str(path)


async def test_many_events_of_streams_that_go_on_in_the_next_file(
    target: Database, target_pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    """So many that several sessions move them into the log."""
    files = [
        write_export(
            tmp_path / str(number),
            (stored(f"s-{n}", 4 * number + v) for v in range(1, 5) for n in range(1000)),
        )
        for number in range(3)
    ]
    read: list[int] = []
    done = await import_events(
        target.admin_url, files, confirm=lambda _: True, progress=read.append
    )
    assert (done.staged.new, done.staged.streams) == (12_000, 1000)
    assert read == sorted(read)
    assert read[-1] > 2**20
    found = await LogVerifier(target_pool).verify()
    assert (found.unsealed, found.findings) == (12_000, [])


async def test_names_may_be_any_bytes_and_many_streams_be_left_out(
    target: Database, target_pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    streams = [f"stream-{number}-{'x' * 60}" for number in range(1500)]
    folder = os.fsencode(tmp_path)
    files = [os.fsdecode(folder + name) for name in (b"/odd-\xff", b"/other")]
    write_export(Path(files[0]), (stored(stream, 1) for stream in streams))
    write_export(Path(files[1]), [stored("s", 1)])
    done = await import_events(target.admin_url, files, without=streams[1:], confirm=lambda _: True)
    assert (done.staged.new, done.staged.left_out) == (2, 1499)
    Path(files[0]).write_bytes(b"nonsense")
    arguments = ("events", "import", *files, "--yes")
    refused = await qlp(*arguments, url=target.url, DATABASE_ADMIN_URL=target.admin_url)
    assert (refused.code, "line 1: " in refused.err) == (1, True)


async def test_what_is_wrong_in_a_file_is_told_with_its_name(
    target: Database, target_pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    first = write_export(tmp_path / "first", [stored("s", 1), stored("s", 2)])
    second = write_export(tmp_path / "second", [stored("s", 3)])
    Path(cut := str(tmp_path / "cut")).write_bytes(Path(second).read_bytes()[:-20])
    gone = str(tmp_path / "gone")
    for files, error, complaint in (
        ([second, first], ImportRefused, f"{first}: line 1: streamversion: 1 of 's' comes after 3"),
        ([first, cut], InvalidExport, f"{cut}: line 2: "),
        ([first, gone], OSError, "No such file"),
    ):
        with pytest.raises(error, match=complaint):
            await import_events(target.admin_url, files, confirm=lambda _: True)
        assert await everything(EventLog(target_pool)) == []
    with psycopg.connect(target.admin_url) as owner:
        assert owner.execute("select count(*) from import_events").fetchall() == [(0,)]


async def test_a_process_that_ends_while_it_reads_leaves_nothing(
    target: Database, target_pool: AsyncConnectionPool, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "endless")  # nobody writes to it
    first = write_export(tmp_path / "first", [stored("s", 1)])
    files = [first, str(tmp_path / "endless")]
    importing = asyncio.create_task(import_events(target.admin_url, files, confirm=lambda _: True))

    def readers() -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process().children()
            if import_files.__name__.replace("files", "process") in child.cmdline()
        ]

    while not (found := readers()):
        await asyncio.sleep(0.01)
    for reader in found:
        reader.kill()
    with pytest.raises(ImportRefused, match=r"the process that read it ended"):
        await importing
    assert readers() == []
    assert await everything(EventLog(target_pool)) == []


async def test_a_reader_ends_with_its_parent(target: Database, tmp_path: Path) -> None:
    os.mkfifo(endless := tmp_path / "endless")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "domain.operations.import_process"), stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps([target.admin_url, str(endless), 0, []]).encode() + b"\n")
    await process.stdin.drain()
    process.stdin.close()
    async with asyncio.timeout(20):
        assert await process.wait() == 1
