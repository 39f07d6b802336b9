"""Migrations: applied once, by whoever comes first, and never silently different."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from msgspec.structs import replace
from psycopg_pool import AsyncConnectionPool

from domain.application.repository import IntentRepository
from domain.database import migrate as module
from domain.database.migrate import (
    MigrationError,
    SchemaOutOfDate,
    check_schema,
    load_migrations,
    migrate,
)
from domain.database.pool import open_pool
from domain.eventlog.log import EventLog
from domain.intents.content import Program
from domain.intents.events import IntentPlanned
from domain.intents.evolve import fold
from domain.intents.struct import checked
from domain.projections.intents import IntentReads
from tests.support.intents.recorder import TRACEPARENT
from tests.support.intents.specification import NOW, submitted
from tests.support.postgres import Database, Server

FOLDER = Path(module.__file__).with_name("migrations")
ALL = [f"{migration.version:04}_{migration.name}" for migration in load_migrations()]


@pytest.fixture
def empty(postgres_server: Server) -> Iterator[Database]:
    name = f"qlp_empty_{uuid4().hex[:8]}"
    postgres_server.execute("create database {}", name)
    yield Database(name, postgres_server.admin_url(name), postgres_server.app_url(name))
    postgres_server.execute("drop database {} with (force)", name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations to tamper with."""
    return Path(shutil.copytree(FOLDER, tmp_path / "migrations"))


async def check(database: Database) -> list[str]:
    pool = await open_pool(database.url, min_size=1, max_size=1, application_name="tests")
    try:
        return await check_schema(pool)
    finally:
        await pool.close()


async def test_migrating_twice_applies_everything_once(empty: Database) -> None:
    assert await migrate(empty.admin_url) == ALL
    assert await migrate(empty.admin_url) == []
    await check(empty)


async def test_eight_processes_at_once_apply_each_migration_once(empty: Database) -> None:
    program = (
        "import asyncio, sys; from domain.database.migrate import migrate;"
        "print(*asyncio.run(migrate(sys.argv[1])))"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, empty.admin_url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(8)
    ]
    outputs = [(await process.communicate())[0].decode().split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sorted(name for output in outputs for name in output) == ALL


async def test_databases_of_one_cluster_can_be_migrated_at_once(postgres_server: Server) -> None:
    names = [f"qlp_empty_{uuid4().hex[:8]}" for _ in range(4)]
    try:
        for name in names:
            postgres_server.execute("create database {}", name)
        urls = [postgres_server.admin_url(name) for name in names]
        assert await asyncio.gather(*map(migrate, urls)) == [ALL] * 4
    finally:
        for name in names:
            postgres_server.execute("drop database if exists {} with (force)", name)


async def test_a_changed_migration_is_refused(database: Database, folder: Path) -> None:
    with (folder / f"{ALL[0]}.sql").open("a") as file:
        file.write("\n-- an afterthought\n")
    with pytest.raises(MigrationError, match=f"{ALL[0]} was changed after it was applied"):
        await migrate(database.admin_url, folder)


async def test_line_endings_are_not_a_change(database: Database, folder: Path) -> None:
    for name in ALL:
        path = folder / f"{name}.sql"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrate(database.admin_url, folder) == []


async def test_a_database_newer_than_the_code_is_refused(database: Database, folder: Path) -> None:
    number = len(ALL) + 1
    (folder / f"{number:04}_future.sql").write_text("select 1")
    assert await migrate(database.admin_url, folder) == [f"{number:04}_future"]
    with pytest.raises(MigrationError, match="newer release"):
        await migrate(database.admin_url)
    with pytest.raises(MigrationError, match="newer release"):
        await check(database)


async def test_a_migration_fills_in_whose_plan_earlier_intents_reused(
    database: Database, pool: AsyncConnectionPool
) -> None:
    repository = IntentRepository(EventLog(pool))
    solved = uuid4()

    async def planned(program: Program, **of_plan: Any) -> UUID:
        made = replace(submitted(), intent_id=uuid4())
        plan = IntentPlanned(at=NOW, program=program, **of_plan)
        events = [made, plan]
        after = fold(events)
        assert after is not None
        await repository.save(None, after, events, command_id=uuid4(), traceparent=TRACEPARENT)
        return made.intent_id

    # Its program holds what an event of another intent could.
    code = f"""print('{{"reused_from":"{uuid4()}"}}')"""
    program = checked(Program, {"language": "python", "files": {"main.py": code}})
    own = await planned(program, source="generated")
    reused = await planned(program, source="reused", reused_from=solved)
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("alter table intent_states drop column reused_from")
        connection.execute("delete from schema_migrations where name = 'reused_plans'")
    assert [name[5:] for name in await migrate(database.admin_url)] == ["reused_plans"]
    rows = {row.id: row.reused_from for row in (await IntentReads(pool).list("acme")).items}
    assert rows == {own: None, reused: solved}


async def test_a_database_that_is_refused_is_left_as_it_was(empty: Database) -> None:
    with psycopg.connect(empty.admin_url, autocommit=True) as owner:
        owner.execute("create table events (of_somebody_else int)")
        with pytest.raises(psycopg.errors.DuplicateTable):
            await migrate(empty.admin_url)
        tables = owner.execute("select relname from pg_class where relkind = 'r' "
                               "and relnamespace = 'public'::regnamespace").fetchall()  # fmt: skip
    assert tables == [("events",)]


async def test_code_runs_with_later_migrations_that_say_so(
    database: Database, folder: Path
) -> None:
    """A release that is rolled back meets the schema of the one that replaced it."""
    number = len(ALL) + 1
    compatible = f"-- Code since {len(ALL):04} runs with this.\nselect 1"
    (folder / f"{number:04}_added.sql").write_text(compatible)
    await migrate(database.admin_url, folder)
    assert await migrate(database.admin_url) == []
    assert await check(database) == [f"{number:04}_added"]
    too_far = f"-- Code since {number:04} runs with this.\nselect 1"
    (folder / f"{number + 1:04}_taken_away.sql").write_text(too_far)
    await migrate(database.admin_url, folder)
    with pytest.raises(MigrationError, match=f"{number + 1:04}_taken_away.* newer release"):
        await check(database)


async def test_what_ends_the_way_back_waits_until_it_is_confirmed(
    database: Database, folder: Path
) -> None:
    number = len(ALL) + 1
    ending = f"{number:04}_ending"
    (folder / f"{ending}.sql").write_text("-- To be confirmed: no way back.\nselect 1")
    said: list[str] = []
    assert await migrate(database.admin_url, folder, progress=said.append) == []
    assert said == [f"{ending} waits until no earlier release is needed: migrate --confirm"]
    (folder / f"{number + 1:04}_later.sql").write_text("select 1")
    with pytest.raises(MigrationError, match=rf"later needs {ending}.*migrate --confirm"):
        await migrate(database.admin_url, folder)
    independent = f"{number + 2:04}_independent"
    text = f"-- Code since {number - 1:04} runs with this.\nselect 1"
    (folder / f"{number + 1:04}_later.sql").write_text(text)
    (folder / f"{independent}.sql").write_text(text)
    later = [f"{number + 1:04}_later", independent]
    assert await migrate(database.admin_url, folder) == later
    assert await migrate(database.admin_url, folder, confirm=True) == [ending]


def test_all_but_what_is_to_be_confirmed_says_which_code_runs_with_it() -> None:
    """Else the release before could not be gone back to."""
    for migration in load_migrations()[12:]:
        assert (migration.runs_with is None) is migration.to_confirm, migration


async def test_what_others_have_made_of_what_goes_is_named(
    database: Database, folder: Path
) -> None:
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("create view theirs as select metadata from events")
    path = folder / f"{len(ALL) + 1:04}_ending.sql"
    path.write_text("-- To be confirmed: no way back.\nalter table events drop column metadata")
    with pytest.raises(MigrationError, match="ending: view theirs depends on column metadata"):
        await migrate(database.admin_url, folder, confirm=True)


async def test_statements_that_break_off_are_repeated_one_by_one(
    database: Database, folder: Path
) -> None:
    number = len(ALL) + 1
    path = folder / f"{number:04}_slow.sql"
    path.write_text(
        "-- Code since 0001 runs with this.\n-- Outside of a transaction: slow.\n"
        "create table if not exists first_step ();\n\nselect 1 / 0;"
    )
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(database.admin_url, folder)
    path.write_text(path.read_text().replace("1 / 0", "'first_step'::regclass"))
    assert await migrate(database.admin_url, folder) == [path.stem]


async def test_a_table_of_migrations_from_before_is_read_and_extended(
    database: Database, folder: Path
) -> None:
    async with await psycopg.AsyncConnection.connect(database.admin_url) as owner:
        await owner.execute("alter table schema_migrations drop column runs_with")
    assert await check(database) == []
    (folder / f"{len(ALL) + 1:04}_future.sql").write_text("select 1")
    await migrate(database.admin_url, folder)
    with pytest.raises(MigrationError, match="newer release"):
        await check(database)


async def test_a_failing_migration_leaves_nothing_of_itself(
    database: Database, folder: Path
) -> None:
    number = len(ALL) + 1
    broken = folder / f"{number:04}_broken.sql"
    broken.write_text("create table half (id int); select 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(database.admin_url, folder)
    broken.write_text("create table half (id int)")
    assert await migrate(database.admin_url, folder) == [f"{number:04}_broken"]


async def test_a_database_without_migrations_says_what_to_run(empty: Database) -> None:
    with pytest.raises(SchemaOutOfDate, match="run `qlp migrate`"):
        await check(empty)


async def test_a_login_that_is_a_member_of_the_role_can_run_the_application(
    database: Database, postgres_server: Server
) -> None:
    login = f"member_{uuid4().hex[:8]}"
    postgres_server.execute("create role {} login password 'member' in role qlp_app", login)
    try:
        url = psycopg.conninfo.make_conninfo(database.url, user=login, password="member")
        pool = await open_pool(url, min_size=1, max_size=1, application_name="tests")
        await check_schema(pool)
        async with pool.connection() as connection:
            await connection.execute("select from events")
        await pool.close()
    finally:
        postgres_server.execute("drop role {}", login)


def test_numbers_must_have_no_gap_and_names_must_be_well_formed(folder: Path) -> None:
    (folder / "9999_far.sql").write_text("select 1")
    with pytest.raises(MigrationError, match="without gaps"):
        load_migrations(folder)
    (folder / "later.sql").write_text("select 1")
    with pytest.raises(MigrationError, match=r"later\.sql"):
        load_migrations(folder)
