"""``qlp`` on a terminal, in a pipe that nobody reads any more, and interrupted."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database
from tests.support.qlp import qlp

COMMAND = (sys.executable, "-m", "domain.operations")


def settings(database: Database) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return {**kept, "DATABASE_URL": database.url}


def on_terminal(database: Database, columns: int, *arguments: str) -> str:
    """What a command shows on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    done = subprocess.run(
        [*COMMAND, *arguments], env=settings(database), stdout=theirs, timeout=60, check=True
    )
    assert done.returncode == 0
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the end of a terminal that nobody writes to
        pass
    finally:
        os.close(ours)
    return shown.decode()


async def test_an_id_is_never_wrapped_or_cut(database: Database, pool: AsyncConnectionPool) -> None:
    recorder = Recorder(pool)
    ids = [f"intent-{await recorder.submitted()}" for _ in range(2)]
    for columns in (40, 80, 200):
        shown = await asyncio.to_thread(on_terminal, database, columns, "streams", "list")
        assert all(stream_id in shown for stream_id in ids), shown
    said = await qlp("streams", "list", "--limit", "1", url=database.url)
    assert said.err.strip() == f"more with --after {min(ids)}"
    assert len(said.out.splitlines()) == 2


async def test_a_long_label_is_a_line_outside_of_a_terminal(
    database: Database, pool: AsyncConnectionPool
) -> None:
    await ApiKeys(pool).ensure_tenant("acme")
    await ApiKeys(pool).create("acme", "client", "for whoever needs it " * 9)
    said = await qlp("keys", "list", url=database.url)
    assert len(said.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("streams", "list"), "no streams"),
        (("streams", "list", "--tenant", "nobody"), "no streams of the tenant nobody"),
        (("keys", "list"), "there are no keys; create one with: qlp keys create --tenant NAME"),
        (("runs", "list"), "no program has run yet"),
        (("runs", "list", "--tenant", "nobody"), "no program of the tenant nobody has run yet"),
        (("runs", "list", "--running"), "no program is running"),
        (("rejected", "list"), "no message was rejected"),
        (("projections", "parked"), "no stream is parked"),
        (("log", "seals"), "nothing is sealed yet"),
    ],
)
async def test_an_empty_list_says_what_that_means(
    database: Database, arguments: tuple[str, ...], says: str
) -> None:
    said = await qlp(*arguments, url=database.url)
    assert (said.code, said.out.startswith(says)) == (0, True), said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("streams", "list"),
        ("streams", "list", "--json"),
        ("events", "export", "-"),
        ("events", "tail", "--from", "start"),
        ("events", "tail"),
        ("doctor",),
    ],
)
async def test_a_pipe_that_nobody_reads_ends_every_command_without_a_word(
    database: Database, pool: AsyncConnectionPool, arguments: tuple[str, ...]
) -> None:
    await Recorder(pool).submitted()
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, *arguments),
        env=settings(database),
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert err == b""


async def test_an_interruption_of_a_question_is_the_answer_no(
    database: Database, pool: AsyncConnectionPool
) -> None:
    await ApiKeys(pool).ensure_tenant("acme")
    terminal, keyboard = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "tenants", "limits", "set", "acme", "--ceiling", "processes=1"),
        env=settings(database),
        stdin=keyboard,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        await process.stderr.readuntil(b"[y/N]:")
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err.split()) == (1, [b"Aborted!"])
    os.close(keyboard)
    os.close(terminal)


async def test_an_interruption_leaves_no_traceback(database: Database) -> None:
    with psycopg.connect(database.admin_url) as blocking:
        blocking.execute("lock table events in access exclusive mode")
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "streams", "list"),
            env=settings(database),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            while not _waits(database):
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out, err) == (130, b"", b"")


def _waits(database: Database) -> bool:
    """Whether somebody waits for the lock."""
    with psycopg.connect(database.admin_url, autocommit=True) as looking:
        found = looking.execute(
            "select count(*) from pg_locks where not granted and relation = 'events'::regclass"
        ).fetchall()
    return bool(found[0][0])
