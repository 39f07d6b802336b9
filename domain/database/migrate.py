"""Migrates a database to the schema that this code needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import Connection
from domain.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("migrate.sql"))
_FOLDER = Path(__file__).with_name("migrations")
_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")

#: The first line of a migration with which earlier code still runs, as after a rollback of a
#: release; it names the schema version of the oldest such code.
_RUNS_WITH = re.compile(rb"-- Code since (\d{4}) runs with this\.")


class MigrationError(Exception):
    """The database and the code's migrations contradict each other; the message says how."""


class SchemaOutOfDate(MigrationError):
    """The database lacks migrations of this code."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration file: ``NNNN_name.sql``; forward only, never edited once released."""

    version: int
    name: str
    sql: bytes

    @property
    def runs_with(self) -> int | None:
        """The schema version of the oldest code that runs with it; None: only code with it."""
        found = _RUNS_WITH.match(self.sql)
        return int(found[1]) if found is not None else None

    @property
    def sha256(self) -> str:
        """Hash of its text, hexadecimal."""
        return hashlib.sha256(self.sql).hexdigest()


def load_migrations(folder: Path = _FOLDER) -> list[Migration]:
    """The migrations of a folder in order.

    Raises:
        MigrationError: a file's name is not ``NNNN_name.sql`` or the numbers have a gap.
    """
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        parts = _FILE_NAME.fullmatch(path.name)
        if parts is None:
            raise MigrationError(f"{path.name}: migrations are named NNNN_name.sql")
        text = path.read_bytes().replace(b"\r\n", b"\n")
        migrations.append(Migration(int(parts[1]), parts[2], text))
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise MigrationError(f"{folder.name}: the numbers must be 0001, 0002, … without gaps")
    return migrations


async def migrate(admin_url: str, folder: Path = _FOLDER) -> list[str]:
    """Apply pending migrations, each in a transaction; safe to run in many processes at once.

    Args:
        admin_url: the URL of the role that owns, or will own, the tables.
        folder: the migration files.

    Returns:
        the names of the migrations applied by this call.

    Raises:
        MigrationError: an applied file has changed, or the database is newer than the code and
            does not run with it.
        psycopg.OperationalError: the database cannot be reached.
    """
    migrations = load_migrations(folder)
    async with await Connection.connect(admin_url, autocommit=True) as connection:
        # No timeout while another process migrates; the lock is released with the connection.
        await connection.execute(_SQL["wait_without_limit"])
        await connection.execute(_SQL["lock"])
        applied: list[_Applied] = []
        if await _is(connection, "has_table"):
            if not await _is(connection, "has_runs_with"):
                await connection.execute(_SQL["add_runs_with"])
            applied = await _applied(connection)
        pending = _pending(migrations, applied)
        for migration in pending:
            async with connection.transaction():
                # With the first one: what it is refused by is left without a trace.
                await connection.execute(_SQL["create_table"])
                await connection.execute(migration.sql)
                await connection.execute(
                    _SQL["record"],
                    [migration.version, migration.name, migration.sha256, migration.runs_with],
                )
        if await _is(connection, "has_log"):
            await connection.execute(_SQL["adopt_log"])
    return [f"{migration.version:04}_{migration.name}" for migration in pending]


async def check_schema(pool: AsyncConnectionPool) -> list[str]:
    """Verify that the database has this code's migrations, and no others that it cannot run with.

    Returns:
        the names of migrations of a later release, with which this code runs.

    Raises:
        SchemaOutOfDate: some are missing.
        MigrationError: as `migrate`.
    """
    async with pool.connection() as connection:
        try:
            applied = await _applied(connection)
        except (pg.UndefinedTable, pg.InsufficientPrivilege):
            applied = []
    pending = _pending(load_migrations(), applied)
    if pending:
        names = ", ".join(f"{migration.version:04}_{migration.name}" for migration in pending)
        raise SchemaOutOfDate(f"the database lacks the migrations {names}: run `qlp migrate`")
    known = len(load_migrations())
    return [f"{version:04}_{name}" for version, name, *_ in applied if version > known]


_Applied = tuple[int, str, str, int | None]


async def _is(connection: AsyncConnection[Any], question: str) -> bool:
    [(answer,)] = await (await connection.execute(_SQL[question])).fetchall()
    return bool(answer)


async def _applied(connection: AsyncConnection[Any]) -> list[_Applied]:
    return await (await connection.execute(_SQL["applied"])).fetchall()


def _pending(migrations: Sequence[Migration], applied: Sequence[_Applied]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    for version, name, sha256, runs_with in applied:
        migration = known.pop(version, None)
        if migration is None and runs_with is not None and runs_with <= len(migrations):
            continue
        if migration is None:
            raise MigrationError(
                f"the database has migration {version:04}_{name}, which this code does not know "
                "and cannot run with: it was migrated by a newer release; deploy that release, or "
                "a later one"
            )
        if (migration.name, migration.sha256) != (name, sha256):
            raise MigrationError(
                f"migration {version:04}_{name} was changed after it was applied: restore the "
                "file, and put the change into a new migration"
            )
    return list(known.values())
