"""Asks before a database that is somebody else's gets this product's schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from domain.database.pool import Connection
from domain.database.statements import load_statements
from infra.local.stack.config import StackError

_SQL = load_statements(Path(__file__).with_name("foreign_database.sql"))

#: Whether whoever started the stack agrees with what is said.
Confirm = Callable[[str], bool]


async def may_migrate(url: str, confirm: Confirm) -> None:
    """Return if a database has this product's schema, or may get it.

    Raises:
        StackError: it cannot be reached, holds somebody else's migrations, or nobody agrees.
    """
    try:
        async with await Connection.connect(url) as connection:
            [row] = await (await connection.execute(_SQL["whose"])).fetchall()
    except psycopg.Error as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise StackError(f"QLP_DATABASE_URL: the database cannot be used: {reason[0]}") from None
    ours, others_migrations, tables = row
    if ours:
        return
    named = conninfo_to_dict(url)
    where = f"the database {named.get('dbname')} on {named.get('host') or 'this machine'}"
    if others_migrations:
        raise StackError(
            f"QLP_DATABASE_URL: {where} has a table schema_migrations that is not QLP's; "
            "name an empty database"
        )
    holds = f"holds {tables} tables of others" if tables else "is empty"
    if not confirm(f"{where} {holds} and has no schema of QLP yet. Create it there?"):
        raise StackError(
            f"QLP_DATABASE_URL: {where} {holds}, and gets QLP's schema only if that is agreed to: "
            "make up ARGS=--yes"
        )
