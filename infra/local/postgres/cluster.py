"""Contents of the embedded PostgreSQL: cluster, passwords, settings, roles, databases."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from infra.local.postgres.files import (
    MAJOR_VERSION,
    EmbeddedPostgresError,
    Files,
    account_for_initdb,
    change_owner,
)
from infra.local.private_files import write_private

HOST = "127.0.0.1"
ADMIN = "postgres"
APP_LOGIN = "qlp"  # the application's login: owns no tables, is a member of qlp_app

_INITDB_SECONDS = 60.0

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    # On one machine with short queries, each of these costs more time than it saves.
    "jit": "off",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "random_page_cost": "1.1",
    # A forgotten transaction holds back every reader of the event log.
    "idle_in_transaction_session_timeout": "60s",
    "client_connection_check_interval": "5s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and key values may contain personal data, which must not be logged.
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

Passwords = dict[str, str]


def environment() -> dict[str, str]:
    """The environment of PostgreSQL's programs: nothing is inherited, no PG* variables."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def run_as(uid: int | None, gid: int | None = None) -> dict[str, Any]:
    """Arguments for `subprocess` that run a program as ``uid``; none if it is None."""
    if uid is None:
        return {}
    return {"user": uid, "group": uid if gid is None else gid, "extra_groups": []}


def load_passwords(path: Path, files: Files) -> Passwords:
    """Read the passwords from ``path``, or create them if there is no cluster yet.

    Raises:
        EmbeddedPostgresError: there is a cluster, but its passwords are missing.
    """
    if path.exists():
        stored: Passwords = json.loads(path.read_text())
        return stored
    if (files.data / "PG_VERSION").exists():
        raise EmbeddedPostgresError(
            f"{path} with the passwords for {files.data} is missing: "
            "restore it, or delete the data directory to start with an empty one"
        )
    passwords = {user: secrets.token_hex(24) for user in (ADMIN, APP_LOGIN)}
    staging = path.with_suffix(".new")
    write_private(staging, json.dumps(passwords))
    staging.rename(path)
    return passwords


def ensure_cluster(files: Files, passwords: Passwords) -> None:
    """Run initdb if ``files.data`` holds no cluster; a crash leaves no half-made one.

    Raises:
        EmbeddedPostgresError: initdb failed, or the cluster is of another major version.
    """
    version = files.data / "PG_VERSION"
    if not version.exists():
        _initialise(files, passwords[ADMIN])
    found = version.read_text().strip()
    if found != MAJOR_VERSION:
        raise EmbeddedPostgresError(
            f"{files.data} is of PostgreSQL {found}, this is {MAJOR_VERSION}: dump it with "
            f"version {found} and restore it here, or choose another data directory"
        )


def create_roles(admin_url: str, passwords: Passwords) -> None:
    """Create the role that migrations grant to, and the login that is a member of it."""
    with psycopg.connect(admin_url, autocommit=True, connect_timeout=10) as connection:
        known = connection.execute("select from pg_roles where rolname = %s", [APP_LOGIN])
        if known.fetchone() is not None:
            return
        with connection.transaction():
            connection.execute("create role qlp_app nologin")
            connection.execute(
                sql.SQL("create role {} login in role qlp_app password {}").format(
                    sql.Identifier(APP_LOGIN), sql.Literal(passwords[APP_LOGIN])
                )
            )


def create_database(admin_url: str, name: str) -> None:
    """Create an empty database unless it exists."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        known = connection.execute("select from pg_database where datname = %s", [name])
        if known.fetchone() is None:
            # Another process may have created it since the query.
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _initialise(files: Files, admin_password: str) -> None:
    staging = files.data.with_name(f"{files.data.name}.new")
    password_file = files.data.with_name(f"{files.data.name}.pw")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700)
    write_private(password_file, admin_password)
    identity: dict[str, Any] = {}
    if files.owner is not None:
        account = account_for_initdb()
        identity = run_as(account.pw_uid, account.pw_gid)
        os.chown(staging, account.pw_uid, account.pw_gid)
        os.chown(password_file, account.pw_uid, account.pw_gid)
    try:
        _initdb(files.bin / "initdb", staging, password_file, identity)
    finally:
        password_file.unlink()
    if files.owner is not None:
        change_owner(files.owner, staging)
    if files.data.exists():
        _require_empty(files.data)
        files.data.rmdir()
    staging.rename(files.data)


def _initdb(program: Path, target: Path, password_file: Path, identity: dict[str, Any]) -> None:
    done = subprocess.run(
        [
            program,
            f"--pgdata={target}",
            f"--username={ADMIN}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            # Without these, initdb would try out which values work; the server overrides them.
            "--set=shared_buffers=128MB",
            "--set=max_connections=100",
            "--set=unix_socket_directories=",
        ],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment(),
        cwd="/",
        check=False,
        timeout=_INITDB_SECONDS,
        **identity,
    )
    if done.returncode != 0:
        reason = done.stderr.strip()[-2000:]
        if "user does not exist" in reason:
            reason += "; PostgreSQL must run as a user in /etc/passwd"
        raise EmbeddedPostgresError(f"initdb failed: {reason}")


def _require_empty(directory: Path) -> None:
    if any(directory.iterdir()):
        raise EmbeddedPostgresError(
            f"{directory} holds something that is not a PostgreSQL cluster: "
            "choose another data directory"
        )
