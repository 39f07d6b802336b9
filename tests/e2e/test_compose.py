"""The system in containers, as ``compose.yaml`` describes it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.compose.composed import Composed
from tests.support.stack import Client

SIX_BY_SEVEN = {"language": "python", "files": {"main.py": "print(6 * 7)"}}

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(composed: Composed) -> Composed:
    await composed.call("up", "--detach", "--no-build", seconds=400)
    return composed


async def until_ok(session: aiohttp.ClientSession, url: str) -> Any:
    """The health of everything, once it is well."""
    body: Any = None
    for _ in range(600):
        try:
            async with session.get(f"{url}/api/health") as response:
                body = await response.json()
                if body["status"] == "ok":
                    return body
        except aiohttp.ClientError as error:
            body = str(error)
        await asyncio.sleep(0.2)
    raise AssertionError(body)


async def test_it_runs_a_program_and_keeps_it_over_a_restart(running: Composed) -> None:
    async with aiohttp.ClientSession() as session:
        await until_ok(session, running.url)
        created = ("keys", "create", "--tenant", "demo", "--json")
        told = await running.call("run", "--rm", "qlp", *created)
        client = Client(session, running.url, json.loads(told)["key"])
        done = await client.run({"program": SIX_BY_SEVEN})
        assert done["status"] == "succeeded", done
        await running.call("restart", "--timeout", "5", "postgres", "functions")
        await until_ok(session, running.url)
        kept = await client.get(f"/intents/{done['id']}")
    assert kept.body["outcome"]["stdout"] == "42\n"


async def test_each_part_knows_only_its_own_secrets(running: Composed) -> None:
    for part, known in {
        "functions": {"app", "bus"},
        "servicebus": {"bus"},
        "sandbox": {"bus"},
        "postgres": {"owner"},
    }.items():
        listed = await running.call("exec", "-T", part, "sh", "-c", "ls -d /run/qlp/*/* || true")
        assert {line.split("/")[3] for line in listed.split()} == known, part


async def test_no_secret_is_shown_by_the_engine_or_in_a_log(running: Composed) -> None:
    told = await running.call("logs", "--no-color")
    owner = await running.call("exec", "-T", "postgres", "cat", "/run/qlp/owner/password")
    others = await running.call(
        "exec", "-T", "functions", "sh", "-c", "for f in /run/qlp/*/*; do cat $f; echo; done"
    )
    secrets = {owner.strip(), *others.split()}
    assert len(secrets) >= 4
    assert [secret for secret in secrets if secret in told] == []


async def test_the_sandbox_reaches_neither_the_database_nor_the_world(running: Composed) -> None:
    script = (
        "import socket\n"
        "for name in ('postgres', 'functions'):\n"
        "    try: print(name, bool(socket.gethostbyname(name)))\n"
        "    except OSError: print(name, False)\n"
        "try: socket.create_connection(('1.1.1.1', 53), 2); print('world', True)\n"
        "except OSError: print('world', False)\n"
    )
    told = await running.call("exec", "-T", "sandbox", "python3", "-c", script)
    assert told.split("\n")[:3] == ["postgres False", "functions True", "world False"]


async def test_the_application_s_login_owns_nothing(running: Composed) -> None:
    query = "select count(*) from pg_class where relowner = 'qlp'::regrole"
    psql = ["psql", "--host=127.0.0.1", "--username=postgres", "--dbname=qlp", "-Atc", query]
    script = 'PGPASSWORD=$(cat /run/qlp/owner/password) exec "$@"'
    told = await running.call("exec", "-T", "postgres", "sh", "-c", script, "sh", *psql)
    assert told.strip() == "0"
