"""``python -m infra.local`` as a person or a script runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psutil
import psycopg
import pytest
from PIL import Image
from psycopg.conninfo import make_conninfo

from domain.database.migrate import migrate
from infra.local.stack.config import ROOT
from tests.support.postgres import Server
from tests.support.sandbox.bus import programs_with
from tests.support.waiting import until

#: Of the sandbox host, so that a stop is not over by itself.
LONG_DRAIN = {"QLP_SANDBOX_DRAIN_SECONDS": "60"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def local(*arguments: str, data: Path, **environment: str) -> Process:
    settings = {"QLP_HTTP_PORT": "0", "QLP_AMQP_PORT": "0", "QLP_SANDBOX_RUNTIMES": "bubblewrap"}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infra.local", *arguments),
        cwd=ROOT,
        env={**os.environ, **settings, "QLP_DATA_DIR": str(data), **environment},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def lines_until(process: Process, what: str) -> list[dict[str, Any]]:
    assert process.stdout is not None
    said: list[dict[str, Any]] = []
    while not said or said[-1]["what"] != what:
        line = await process.stdout.readline()
        assert line, (said, await process.stderr.read() if process.stderr else b"")
        said.append(json.loads(line))
    return said


async def test_the_demo_shows_the_main_job_exits_with_0_and_reset_leaves_nothing(
    open_path: Path,
) -> None:
    data = open_path / "data with ünïcode"
    process = await local("demo", data=data)
    stdout, stderr = await process.communicate()
    text = stdout.decode()
    assert process.returncode == 0, (text, stderr)
    assert "mean of Jan, Feb, Mar = 119.3" in text
    assert "HELLO FROM THE BUS" in text
    assert "the state folded from the events equals the read model" in text
    for event in ("IntentSubmitted", "IntentPlanned", "SandboxRunFinished", "IntentSucceeded"):
        assert text.count(event) == 2
    assert "totals.png?inline=1 → image/png" in text

    database = (data / "postgres").resolve()
    assert database.exists()
    for arguments, code, kept in (
        (("reset", "--dry-run"), 0, True),
        (("reset",), 1, True),
        (("reset", "--yes"), 0, False),
        (("reset", "--yes"), 0, False),
    ):
        process = await local(*arguments, data=data)
        await process.communicate(b"")
        assert process.returncode == code, arguments
        assert (data.exists(), database.exists()) == (kept, kept)


async def test_it_serves_until_interrupted_stops_every_child_and_keeps_the_data(
    open_path: Path,
) -> None:
    process = await local("up", "--json", data=open_path)
    said = await lines_until(process, "serving")
    serving = said[-1]
    headers = {"X-API-Key": serving["api_key"]}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{serving['url']}/intents") as response:
            first = (await response.json())["items"]
        assert len(first) == 3
        [drawn] = [line["artifact"] for line in said if "artifact" in line]
        async with session.get(serving["url"].removesuffix("/api") + drawn) as response:
            with Image.open(BytesIO(await response.read())) as plot:
                assert (plot.format, plot.size) == ("PNG", (300, 160))
                assert plot.getpixel((50, 159)) != plot.getpixel((50, 0)) == (255, 255, 255)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 4
        process.send_signal(signal.SIGINT)
        said = await lines_until(process, "stopped")
        assert [line["what"] for line in said] == ["stopping", "stopped"]
        assert await process.wait() == 0
        assert (await asyncio.to_thread(psutil.wait_procs, children, 60))[1] == []

        again = await local("up", "--json", "--no-tour", data=open_path)
        serving = (await lines_until(again, "serving"))[-1]
        async with session.get(f"{serving['url']}/intents") as response:
            assert (await response.json())["items"] == first
        again.send_signal(signal.SIGTERM)
        assert await again.wait() == 0


async def sleeping(serving: dict[str, Any]) -> str:
    """Submit a program that sleeps for a minute, and wait until it runs; its argument."""
    marker = f"qlp-sleeper-{uuid4()}"
    program = {
        **{"language": "python", "files": {"main.py": "import time; time.sleep(60)"}},
        **{"args": [marker], "limits": {"wall_seconds": 120}},
    }
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": serving["api_key"]}) as http,
        http.post(f"{serving['url']}/intents", json={"text": marker, "program": program}) as reply,
    ):
        assert reply.status == 202, await reply.text()
    await until(lambda: programs_with(marker))
    return marker


def part(process: Process, module: str) -> psutil.Process:
    """The child of the stack that runs ``module``."""
    children = psutil.Process(process.pid).children()
    [found] = [child for child in children if module in child.cmdline()]
    return found


async def test_a_stop_ends_programs_in_order_and_leaves_nothing_of_their_boxes(
    open_path: Path,
) -> None:
    process = await local("up", "--json", "--no-tour", data=open_path)
    await sleeping((await lines_until(process, "serving"))[-1])
    host = part(process, "sandbox_host")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    [said] = await lines_until(process, "stopping")
    assert time.monotonic() - began < 2
    assert (said["programs"], said["seconds"]) == (1, 5)
    await lines_until(process, "stopped")
    assert time.monotonic() - began < 14
    assert "1 jobs still ran after 5 s; they go back" in (
        (open_path / "logs" / "sandbox.log").read_text()
    )
    assert not any(Path("/sys/fs/cgroup").glob(f"**/qlp-*-{host.pid}-*"))
    assert await process.wait() == 0


async def test_a_second_ctrl_c_ends_everything_at_once(open_path: Path) -> None:
    process = await local("up", "--json", "--no-tour", data=open_path, **LONG_DRAIN)
    await sleeping((await lines_until(process, "serving"))[-1])
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    [said] = await lines_until(process, "stopping")
    assert said["seconds"] == 60
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    await lines_until(process, "stopped")
    assert time.monotonic() - began < 5
    assert await process.wait() == 0
    assert (await asyncio.to_thread(psutil.wait_procs, children, 5))[1] == []
    assert not (open_path / "postgres" / "postmaster.pid").exists(), "it ended in order"


async def test_a_program_that_a_stop_interrupts_runs_again_after_the_next_start(
    open_path: Path,
) -> None:
    settings = {"QLP_SANDBOX_DRAIN_SECONDS": "0.1"}
    process = await local("up", "--json", "--no-tour", data=open_path, **settings)
    marker = await sleeping((await lines_until(process, "serving"))[-1])
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert not programs_with(marker)

    again = await local("up", "--json", "--no-tour", data=open_path, **settings)
    await lines_until(again, "serving")
    await until(lambda: programs_with(marker), 10)
    again.send_signal(signal.SIGINT)
    await again.communicate()


@pytest.mark.parametrize("signals", [1, 3])
async def test_ctrl_c_during_the_start_leaves_no_child(open_path: Path, signals: int) -> None:
    process = await local("up", "--json", "--no-tour", data=open_path)
    await lines_until(process, "part")
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.02)
    assert await process.wait() == 130
    assert (await asyncio.to_thread(psutil.wait_procs, children, 5))[1] == []


async def test_a_second_start_is_refused_and_children_of_a_killed_stack_end(
    open_path: Path,
) -> None:
    process = await local("up", "--json", "--no-tour", data=open_path)
    await lines_until(process, "serving")
    other = await local("demo", "--json", data=open_path)
    stdout, _ = await other.communicate()
    assert other.returncode == 1
    assert "running already" in json.loads(stdout.splitlines()[-1])["problem"]
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    await process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 60)
    assert alive == []


@pytest.mark.parametrize("setting", ["QLP_HTTP_PORT", "QLP_AMQP_PORT"])
async def test_a_taken_port_is_named_with_the_way_out(open_path: Path, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = await local("demo", data=open_path, **{setting: port})
        stdout, stderr = await process.communicate()
    assert process.returncode == 1
    assert port in stdout.decode()
    assert setting in stdout.decode()
    assert b"Traceback" not in stdout + stderr


def env_of(data: Path) -> dict[str, str]:
    """The settings that the stack leaves for a shell."""
    lines = (data / "env").read_text().splitlines()
    return dict(line.replace("'", "").split("=", 1) for line in lines)


async def healthy(url: str, api_key: str) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession(headers={"X-API-Key": api_key}) as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{url}/health") as response:
                    if (await response.json()).get("status") == "ok":
                        return
            await asyncio.sleep(0.1)


async def test_a_part_that_dies_is_started_again_and_all_is_where_it_was(open_path: Path) -> None:
    process = await local("up", "--json", "--no-tour", data=open_path)
    serving = (await lines_until(process, "serving"))[-1]
    for name in ("functions_host", "servicebus", "infra.local.postgres", "sandbox_host"):
        [part] = [
            child
            for child in psutil.Process(process.pid).children()
            if name in " ".join(child.cmdline())
        ]
        part.kill()
        end = (await lines_until(process, "ended"))[-1]
        assert (end["code"], bool(end["last_words"])) == (-signal.SIGKILL, True)
        await healthy(serving["url"], serving["api_key"])
    process.send_signal(signal.SIGINT)
    await process.communicate()

    # From a shell that has read the stack's own settings, in which DATABASE_URL is the app's login.
    again = await local("up", "--json", "--no-tour", data=open_path, **env_of(open_path))
    said = await lines_until(again, "serving")
    assert said[-1] == serving
    assert "note" not in [line["what"] for line in said]
    again.send_signal(signal.SIGINT)
    await again.communicate()
    assert again.returncode == 0


@pytest.fixture
def foreign(postgres_server: Server) -> Iterator[str]:
    """The owner's URL of a database that is not the stack's."""
    name = f"qlp_foreign_{uuid4().hex[:8]}"
    postgres_server.execute("create database {}", name)
    yield postgres_server.admin_url(name)
    postgres_server.execute("drop database {} with (force)", name)


async def refused(data: Path, url: str, *arguments: str) -> str:
    """Why the stack does not start on a database; a line, and nothing else."""
    process = await local("demo", "--json", *arguments, data=data, QLP_DATABASE_URL=url)
    stdout, stderr = await process.communicate(b"")
    assert process.returncode in (1, 2)
    assert stderr == b""
    problem: str = json.loads(stdout.splitlines()[-1])["problem"]
    assert len(problem.splitlines()) == 1
    return problem


async def test_anothers_database_gets_the_schema_only_if_that_is_agreed_to(
    open_path: Path, foreign: str
) -> None:
    with psycopg.connect(foreign, autocommit=True) as owner:
        assert "is empty; QLP's schema is created there only if" in await refused(
            open_path, foreign
        )
        owner.execute("create table customers (id integer)")
        assert "has other tables (1)" in await refused(open_path, foreign)
        assert owner.execute("select to_regclass('events')").fetchall() == [(None,)]
        owner.execute("create table schema_migrations (version text)")
        assert "that is not QLP's" in await refused(open_path, foreign)
        owner.execute("drop table schema_migrations")
    for arguments in (("--yes",), ()):  # once is enough
        process = await local(
            "up", "--json", "--no-tour", *arguments, data=open_path, QLP_DATABASE_URL=foreign
        )
        await lines_until(process, "serving")
        process.send_signal(signal.SIGINT)
        await process.communicate()


async def test_a_login_that_may_not_migrate_is_told_in_a_line(
    open_path: Path, foreign: str, postgres_server: Server
) -> None:
    role = f"qlp_nobody_{uuid4().hex[:8]}"
    postgres_server.execute("create role {} login password 'nobodys'", role)
    login = make_conninfo(foreign, user=role, password="nobodys")
    try:
        said = await refused(open_path, login, "--yes")
        assert "use the URL of the tables' owner" in said
        assert said.startswith("QLP_DATABASE_URL: this login may not")
    finally:
        postgres_server.execute("drop role {}", role)


async def test_a_database_of_a_later_release_is_told_in_a_line(
    open_path: Path, foreign: str
) -> None:
    await migrate(foreign)
    with psycopg.connect(foreign, autocommit=True) as owner:
        owner.execute(
            "insert into schema_migrations (version, name, sha256) values (9999, 'later', '')"
        )
    said = await refused(open_path, foreign)
    assert said.startswith("QLP_DATABASE_URL: the database")


async def test_a_database_that_cannot_be_used_is_named_in_a_line(
    open_path: Path, foreign: str
) -> None:
    nobody = make_conninfo(foreign, port=1)
    assert "QLP_DATABASE_URL" in await refused(open_path, nobody)
    assert "QLP_DATABASE_URL" in await refused(open_path, "garbage")
