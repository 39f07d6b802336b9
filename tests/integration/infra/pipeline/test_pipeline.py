"""The package holds all that the function app needs; migrations run with a token for a password."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.postgres import Server

_LOAD = """\
import sys
package = sys.argv[1]
sys.path[:0] = [package, f"{package}/.python_packages/lib/site-packages"]
import function_app, psycopg, pydantic
names = sorted(f.get_function_name() for f in function_app.app.get_functions())
assert all(m.__file__.startswith(package) for m in (function_app, psycopg, pydantic))
print(*names)
"""


def pipeline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.pipeline", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def az_that_says(folder: Path, token: str) -> None:
    az = folder / "az"
    az.write_text(f"#!/bin/sh\necho '{token}'\n")
    az.chmod(az.stat().st_mode | stat.S_IXUSR)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_package_stands_by_itself(tmp_path: Path) -> None:
    target, python = tmp_path / "package.zip", ".".join(map(str, sys.version_info[:2]))
    made = pipeline("package", str(target), "--python", python)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(target) as package:
        names = set(package.namelist())
        package.extractall(tmp_path / "unpacked")
    assert {"function_app.py", "host.json", "domain/database/migrations/0001_event_log.sql"} < names
    assert not [n for n in names if n.startswith(("infra/", "sandbox_host/", "tests/"))]
    assert not [n for n in names if "__pycache__" in n or n.endswith("local.settings.json")]
    # -I -S: nothing of this environment is in reach.
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LOAD, str(tmp_path / "unpacked")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert {"submit_intent", "advance_intent", "health"} <= set(loaded.stdout.split())


def test_migrations_are_applied_once(postgres_server: Server, tmp_path: Path) -> None:
    name = f"qlp_test_{uuid4().hex[:8]}"
    postgres_server.execute("create database {}", name)
    try:
        url = postgres_server.admin_url(name)
        owner = conninfo_to_dict(url)
        az_that_says(tmp_path, str(owner["password"]))
        arguments = (
            *("migrate", "--database", name, "--sslmode", "disable"),
            *("--host", str(owner["host"]), "--port", str(owner.get("port", 5432))),
            *("--owner", str(owner.get("user", "postgres"))),
        )
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        first = pipeline(*arguments, PATH=path)
        assert first.returncode == 0, first.stderr
        applied = json.loads(first.stdout)["applied"]
        assert applied[0].startswith("0001")
        assert json.loads(pipeline(*arguments, PATH=path).stdout) == {"applied": []}
        with psycopg.connect(url) as connection:
            assert connection.execute("select count(*) from events").fetchone() == (0,)
    finally:
        postgres_server.execute("drop database {} with (force)", name)


def test_a_database_out_of_reach_is_named_without_the_token(tmp_path: Path) -> None:
    az_that_says(tmp_path, "token-of-the-owner")
    failed = pipeline(
        *("migrate", "--host", "127.0.0.1", "--port", "1", "--owner", "o", "--sslmode", "disable"),
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    )
    assert failed.returncode == 1
    assert "migrate qlp on 127.0.0.1" in failed.stderr
    assert "token-of-the-owner" not in failed.stderr
