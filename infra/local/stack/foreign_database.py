"""Asks before the schema is created in a database that the stack did not create itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from domain.database.pool import Connection
from domain.database.statements import load_statements
from infra.local.stack.config import StackError

_SQL = load_statements(Path(__file__).with_name("foreign_database.sql"))

#: Asks the user who started the stack a question; whether the answer is yes.
Confirm = Callable[[str], bool]


async def may_migrate(url: str, confirm: Confirm) -> None:
    """Return if a database has QLP's schema already, or the user agrees to create it there.

    Raises:
        StackError: it cannot be reached, has another product's migrations, or the user declines.
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
            "use an empty database"
        )
    holds = f"has other tables ({tables})" if tables else "is empty"
    if not confirm(f"{where} {holds} and does not have QLP's schema yet. Create it there?"):
        raise StackError(
            f"QLP_DATABASE_URL: {where} {holds}; QLP's schema is created there only if you agree: "
            "make up ARGS=--yes"
        )
