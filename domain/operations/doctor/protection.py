"""Examines what protects history: rights that are not granted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch, refusals_expected
from domain.database.statements import load_statements
from domain.operations.doctor.findings import Finding

_SQL = load_statements(Path(__file__).with_name("doctor.sql"))

#: What the application's role must not be able to do; affects no row, if that can be expressed.
_FORBIDDEN = {
    "update": sql.SQL("update {table} set {column} = {column} where false"),
    "delete": sql.SQL("delete from {table} where false"),
    "truncate": sql.SQL("truncate {table}"),
}

#: Events may only be appended with the functions whose names begin with append_.
_FORBIDDEN_ON_EVENTS = {"insert": sql.SQL("insert into {table} default values"), **_FORBIDDEN}


async def examine_rights(pool: AsyncConnectionPool) -> Sequence[Finding]:
    """Try what the application's role must not do, in transactions that are rolled back."""
    allowed: list[str] = []
    tables = await fetch(pool, _SQL["protected_tables"], {})
    for table, column in tables:
        names = {"table": sql.Identifier("public", table), "column": sql.Identifier(column)}
        forbidden = _FORBIDDEN_ON_EVENTS if table == "events" else _FORBIDDEN
        for verb, statement in forbidden.items():
            if not await _denied(pool, statement.format(**names)):
                allowed.append(f"{verb} on {table}")
    findings = []
    if allowed:
        revokes = "; ".join(f"revoke {each} from qlp_app, public" for each in allowed)
        findings.append(
            Finding(
                "rights",
                "fail",
                f"the application's role may {', '.join(allowed)}: history is not protected",
                f"use a login that owns nothing and is no superuser; as the owner: {revokes}",
            )
        )
    findings += await _granted(pool, [table for table, _ in tables], allowed)
    named = ", ".join(table for table, _ in tables)
    detail = f"the application cannot change {named} (tried), and nobody else has been granted that"
    return findings or [Finding("rights", "ok", detail)]


async def _granted(
    pool: AsyncConnectionPool, tables: Sequence[str], allowed: Sequence[str]
) -> list[Finding]:
    """Grants to anybody that should not be there, except those already found in ``allowed``."""
    rows = await fetch(pool, _SQL["grants"], {"tables": [*tables]})
    found = {(f"{verb.lower()} on {what}", who) for what, verb, who in rows}
    more = sorted((right, who) for right, who in found if right not in allowed)
    if not more:
        return []
    listed = ", ".join(f"{who} has {right}" for right, who in more)
    revokes = "; ".join(f'revoke {right} from "{who}"' for right, who in more)
    revokes = revokes.replace('"public"', "public")
    return [
        Finding(
            "rights",
            "fail",
            f"rights that should not be granted: {listed}",
            f"as the owner: {revokes}",
        )
    ]


async def _denied(pool: AsyncConnectionPool, statement: sql.Composed) -> bool:
    async with pool.connection() as connection:
        try:
            async with connection.transaction(force_rollback=True):
                await connection.execute(_SQL["short_lock_timeout"])
                with refusals_expected(connection):
                    await connection.execute(statement)
        except pg.InsufficientPrivilege:
            return True
        except pg.LockNotAvailable:
            return False  # the right is there, only the table was locked
        except psycopg.OperationalError:
            raise
        except psycopg.Error:
            return False  # refused by a trigger or a constraint, not for lack of the right
    return False
