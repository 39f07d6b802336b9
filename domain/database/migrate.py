"""Migrates a database to the schema that this code needs."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
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

#: The first line of a migration after which there is no way back to an earlier release. In a
#: database that is not new, it is applied only when somebody says so.
_TO_CONFIRM = re.compile(rb"-- To be confirmed:")

#: The second line of a migration whose statements, which blank lines separate, take so long that
#: they must run one by one: each can be repeated if it has broken off.
_ONE_BY_ONE = re.compile(rb"[^\n]*\n-- Outside of a transaction:")

#: How long a migration waits for a table that others use, while those who come after it wait for
#: it; and how long it lets them pass then. Seconds.
_LOCK_SECONDS, _PASS_SECONDS = 0.1, 1.5

#: Pause between two looks at whether another process still migrates, seconds.
_PAUSE = 0.2

_logger = logging.getLogger(__name__)

#: Called with a line about how far a migration has come, or what it waits for.
Progress = Callable[[str], None]


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
    def to_confirm(self) -> bool:
        """Whether it ends the way back to an earlier release."""
        return _TO_CONFIRM.match(self.sql) is not None

    @property
    def one_by_one(self) -> list[bytes] | None:
        """Its statements, if each is to run in a transaction of its own."""
        if _ONE_BY_ONE.match(self.sql) is None:
            return None
        return [part for part in self.sql.split(b"\n\n") if part.strip()]

    @property
    def sha256(self) -> str:
        """Hash of its text, hexadecimal."""
        return hashlib.sha256(self.sql).hexdigest()

    def __str__(self) -> str:
        """Its file's name, without the ending."""
        return f"{self.version:04}_{self.name}"


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


async def migrate(
    admin_url: str,
    folder: Path = _FOLDER,
    *,
    confirm: bool = False,
    progress: Progress = _logger.info,
) -> list[str]:
    """Apply pending migrations; safe to run in many processes at once, and again if it broke off.

    Most take one short transaction each, and none keeps others waiting for long while it waits
    itself.

    Args:
        admin_url: the URL of the role that owns, or will own, the tables.
        folder: the migration files.
        confirm: apply those, too, after which no earlier release runs with the database. In a new
            database, they are applied in any case.
        progress: see `Progress`.

    Returns:
        the names of the migrations applied by this call.

    Raises:
        MigrationError: an applied file has changed, the database is newer than the code and does
            not run with it, a migration needs another one that is to be confirmed, or something
            else in the database needs what it drops.
        psycopg.OperationalError: the database cannot be reached.
    """
    migrations = load_migrations(folder)
    done = []
    async with await Connection.connect(admin_url, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: progress(notice.message_primary or ""))
        # The lock is released with the connection.
        await connection.execute(_SQL["session"])
        waiting = False
        while not await _is(connection, "lock"):
            if not waiting:
                progress("another process migrates the database; waiting until it has ended")
            waiting = True
            # Not by waiting in a statement: an index that is built outside of a transaction waits
            # until statements that are older than it have ended.
            await asyncio.sleep(_PAUSE)
        applied = await _ready(connection)
        pending = _pending(migrations, applied)
        if applied and not confirm:
            pending = _confirmed(pending, progress)
        for migration in pending:
            # In a new database nothing takes long.
            await _apply(connection, migration, progress if applied else _logger.debug)
            done.append(str(migration))
    return done


async def _ready(connection: AsyncConnection[Any]) -> list[_Applied]:
    """What is applied, once the table of it is as this code needs it."""
    if not await _is(connection, "has_table"):
        return []
    if not await _is(connection, "has_runs_with"):
        await connection.execute(_SQL["add_runs_with"])
    return await _applied(connection)


def _confirmed(pending: Sequence[Migration], progress: Progress) -> list[Migration]:
    """Those that do not wait to be confirmed, nor need one that does.

    A migration with which code runs that is older than the waiting one does not need it.
    """
    waits = [migration for migration in pending if migration.to_confirm]
    others = [migration for migration in pending if not migration.to_confirm]
    for migration in others:
        before = [first for first in waits if first.version < migration.version]
        if before and (migration.runs_with is None or migration.runs_with >= before[0].version):
            raise MigrationError(
                f"migration {migration} needs {before[0]}, which is to be confirmed: "
                "`qlp migrate --confirm`"
            )
    for migration in waits:
        progress(f"{migration} waits until no earlier release is needed: migrate --confirm")
    return others


async def _apply(
    connection: AsyncConnection[Any], migration: Migration, progress: Progress
) -> None:
    while True:
        try:
            await _try(connection, migration, progress)
        except (pg.LockNotAvailable, pg.DeadlockDetected):
            progress(f"{migration} waits for what another transaction uses, and tries again")
            await asyncio.sleep(_PASS_SECONDS)
        except pg.DependentObjectsStillExist as error:
            raise MigrationError(
                f"{migration}: {error.diag.message_detail}: drop that, and migrate again"
            ) from None
        else:
            return


async def _try(connection: AsyncConnection[Any], migration: Migration, progress: Progress) -> None:
    if migration.one_by_one is not None:
        progress(f"{migration} may take long, and waits for transactions that are open now")
        for statement in migration.one_by_one:
            await connection.execute(statement)
        await _record(connection, migration)
        return
    async with connection.transaction():
        await connection.execute(_SQL["wait_briefly"], [f"{_LOCK_SECONDS:g}s"])
        # With the first one: what it is refused by is left without a trace.
        await connection.execute(_SQL["create_table"])
        await connection.execute(migration.sql)
        await _record(connection, migration)


async def _record(connection: AsyncConnection[Any], migration: Migration) -> None:
    row = [migration.version, migration.name, migration.sha256, migration.runs_with]
    await connection.execute(_SQL["record"], row)


async def to_confirm(pool: AsyncConnectionPool) -> list[str]:
    """The names of migrations that wait until somebody confirms them: ``qlp migrate --confirm``."""
    async with pool.connection() as connection:
        return [
            str(migration) for migration in _pending(load_migrations(), await _applied(connection))
        ]


async def check_schema(pool: AsyncConnectionPool) -> list[str]:
    """Verify that the database has this code's migrations, and no others that it cannot run with.

    Those that are to be confirmed may be missing.

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
    if any(not migration.to_confirm for migration in pending):
        names = ", ".join(map(str, pending))
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
