"""A wrong connection setting is one line of whatever program reads it, and its value in none."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from infra.local.stack.config import ROOT

SECRET = "tr0ub4dor"
BUS = f"Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey={SECRET}"

PROGRAMS = {
    "qlp": ("domain.operations", "streams", "list"),
    "qlp as the owner": ("domain.operations", "migrate"),
    "qlp with all settings": ("domain.operations", "dead-letters", "list"),
    "functions host": ("infra.local.functions_host", "--app-dir", str(ROOT), "--port", "0"),
    "make up": ("infra.local", "up"),
    "make demo": ("infra.local", "demo", "--json"),
}

#: The local stack's own one has another name.
SETTING_OF = {"make up": "QLP_DATABASE_URL", "make demo": "QLP_DATABASE_URL"}

WRONG = {
    "garbage": "must be a PostgreSQL URL",
    f"postgresql://qlp:a@{SECRET}@h/d": "an @ is %40",
    f"'postgresql+psycopg://qlp:{SECRET}%@h/d'": "a % is %25",
}


async def said_by(arguments: tuple[str, ...], **settings: str) -> tuple[int | None, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        cwd=ROOT,
        env={**kept, **settings},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, (out + err).decode()


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_wrong_database_url_is_one_line_and_exit_code_2(
    program: str, tmp_path: Path
) -> None:
    async def one(value: str, fix: str) -> None:
        code, said = await said_by(
            PROGRAMS[program],
            **{SETTING_OF.get(program, "DATABASE_URL"): value},
            ServiceBusConnection=BUS,
            QLP_DATA_DIR=str(tmp_path / "data"),
            COLUMNS="80",
        )
        assert (code, said.count("\n")) == (2, 1), said
        assert f"{SETTING_OF.get(program, 'DATABASE_URL')}: " in said
        assert fix in said
        assert SECRET not in said

    await asyncio.gather(*(one(value, fix) for value, fix in WRONG.items()))
    assert not (tmp_path / "data").exists(), "nothing was begun"


@pytest.mark.parametrize("program", ["sandbox_host", "infra.local.functions_host"])
async def test_a_wrong_bus_is_one_line_and_exit_code_2(program: str) -> None:
    arguments = PROGRAMS["functions host"] if "functions" in program else (program,)
    wrong = BUS.replace("=sb://h;", f"=sb://{SECRET} h;")
    code, said = await said_by(arguments, ServiceBusConnection=wrong)
    assert (code, said.count("\n")) == (2, 1), said
    assert "ServiceBusConnection: " in said
    assert SECRET not in said


async def test_a_password_that_is_refused_is_not_shown() -> None:
    """The server, the driver and the pool may repeat what they like: it passes no log line."""
    url = f"postgresql://qlp:{SECRET}@127.0.0.1:1/{SECRET}"
    code, said = await said_by(PROGRAMS["qlp"], DATABASE_URL=url)
    assert code == 1
    assert said.startswith("qlp: the database cannot be reached: ")
    assert SECRET not in said
    code, said = await said_by(("domain.operations", "doctor"), DATABASE_URL=url)
    assert code == 1
    assert SECRET not in said
