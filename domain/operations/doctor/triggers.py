"""Examines whether the database itself protects history: its definitions, and what it refuses.

Whatever is tried is rolled back. The application's role has no right to change events, so only the
tables' owner can try whether the triggers refuse changes, if the owner's login is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection, sql
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import (
    MigrationError,
    check_schema,
    load_migrations,
    to_confirm,
)
from domain.database.pool import Connection, fetch
from domain.database.statements import load_statements
from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.lanes import CHAIN_START, chain_digest, lane_of
from domain.operations.doctor.findings import Finding, first_line

_SQL = load_statements(Path(__file__).with_name("doctor.sql"))

_REFUSES = "EXECUTE FUNCTION refuse_change()"
_CHANGES = "FOR EACH ROW EXECUTE FUNCTION refuse_change()"

#: Each trigger as PostgreSQL shows it (`pg_get_triggerdef`), by table and name.
_TRIGGERS = {
    ("events", "events_immutable"): f"BEFORE DELETE OR UPDATE ON public.events {_CHANGES}",
    ("events", "events_not_truncated"): (
        f"BEFORE TRUNCATE ON public.events FOR EACH STATEMENT {_REFUSES}"
    ),
    ("events", "events_digest"): (
        "BEFORE INSERT ON public.events FOR EACH ROW WHEN ((new.digest IS NULL)) "
        "EXECUTE FUNCTION set_event_digest()"
    ),
    ("events", "events_lane"): (
        "BEFORE INSERT ON public.events FOR EACH ROW WHEN ((new.lane_position IS NULL)) "
        "EXECUTE FUNCTION set_event_lane()"
    ),
} | {
    (table, f"{table}_{name}"): f"BEFORE {what} ON public.{table} {how}"
    for table in ("seals", "seal_heads", "seal_keys", "range_seals")
    for name, what, how in (
        ("immutable", "DELETE OR UPDATE", _CHANGES),
        ("not_truncated", "TRUNCATE", f"FOR EACH STATEMENT {_REFUSES}"),
    )
}

#: A function in a migration. Those that make digests are not quoted: their results are checked.
_FUNCTION = re.compile(
    r"create (?:or replace )?function (\w+)\((?:(?!\ncreate )[\s\S])*?as \$\$([\s\S]*?)\$\$"
)
_PROTECTING = {"refuse_change", "set_event_digest", "append_one", "append_many"} | {
    *("append_commands", "append_one_each", "before_command", "set_event_lane", "take_lanes"),
    *("take_lanes_of", "is_staged"),
}

#: Changes of an existing row, and of the whole table, that must be refused.
_CHANGE = {
    "update": sql.SQL("update {table} set {column} = {column} where {column} = {value}"),
    "delete": sql.SQL("delete from {table} where {column} = {value}"),
    "truncate": sql.SQL("truncate {table}"),
}
#: Each table that only grows, and a column by which a row of it is found.
_ROWS = {
    "events": "stream_id",
    "seals": "statement",
    "seal_heads": "chain_digest",
    "seal_keys": "key_id",
    "range_seals": "digest",
}

_CONNECT_SECONDS = 5


async def examine_triggers(pool: AsyncConnectionPool, owner_url: str | None) -> Sequence[Finding]:
    """Whether changes are refused, and digests computed, whoever the user is.

    Args:
        pool: the application's connections.
        owner_url: signs in as the tables' owner, to try it; None: only compares definitions.
    """
    try:
        await check_schema(pool)
    except MigrationError:
        said = "not examined, as the schema is not that of this release"
        return [Finding("triggers", "warn", said, "see the finding on schema")]
    findings = [*await _defined(pool), *await _digests(pool)]
    if owner_url is None:
        detail = "are defined as they should be; set DATABASE_ADMIN_URL to have them tried as well"
    else:
        detail = (
            "refuse changes of events and seals, even by their owner, and compute digests (tried)"
        )
        try:
            findings += await _tried(owner_url)
        except psycopg.OperationalError as error:
            fix = "correct DATABASE_ADMIN_URL, which is also needed to apply migrations"
            findings.append(Finding("triggers", "fail", f"not tried: {first_line(error)}", fix))
    return findings or [Finding("triggers", "ok", detail)]


def _fail(detail: str, fix: str) -> Finding:
    return Finding("triggers", "fail", detail, f"as the owner: {fix}")


async def _defined(pool: AsyncConnectionPool) -> list[Finding]:
    rows = await fetch(pool, _SQL["triggers"], {})
    found = {(table, name): (state, definition) for table, name, state, definition in rows}
    findings = [
        _fail(f"{name} on {table} does not fire", f"alter table {table} enable trigger {name}")
        for (table, name), (state, _) in found.items()
        if state not in ("O", "A")
    ]
    for (table, name), wanted in _TRIGGERS.items():
        create = f"create trigger {name} {wanted}"
        state, definition = found.get((table, name), (None, ""))
        if state is None:
            findings.append(_fail(f"{name} on {table} is missing", create))
        elif definition != f"CREATE TRIGGER {name} {wanted}":
            again = f"drop trigger {name} on {table}; {create}"
            findings.append(_fail(f"{name} on {table} has another definition", again))
    for table, name in found.keys() - _TRIGGERS.keys():
        if table in _ROWS:
            drop = f"see what it does, then: drop trigger {name} on {table}"
            findings.append(_fail(f"{name} on {table} is a trigger that should not exist", drop))
    [[role]] = await fetch(pool, _SQL["replication_role"], {})
    if role != "origin":
        reset = "alter database … reset session_replication_role (or alter role, or the server)"
        findings.append(_fail(f"no trigger fires: session_replication_role is {role}", reset))
    for table, name in await fetch(pool, _SQL["rules"], {"tables": [*_ROWS]}):
        findings.append(_fail(f"the rule {name} rewrites {table}", f"drop rule {name} on {table}"))
    return [*findings, *await _shapes(pool), *await _functions(pool)]


async def _shapes(pool: AsyncConnectionPool) -> list[Finding]:
    findings = []
    for table, hidden, elsewhere, lost in await fetch(pool, _SQL["shapes"], {"tables": [*_ROWS]}):
        if hidden:
            fix = f"drop its policies; alter table {table} disable row level security"
            findings.append(_fail(f"policies can hide rows of {table}", fix))
        if elsewhere:
            fix = "see what the other table holds (\\d+), then: alter table … no inherit …"
            findings.append(_fail(f"{table} shares its rows with another table", fix))
        if lost:
            fix = f"alter table {table} set logged"
            findings.append(_fail(f"{table} is unlogged: a crash would empty it", fix))
    return findings


async def _functions(pool: AsyncConnectionPool) -> list[Finding]:
    waiting = await to_confirm(pool)
    wanted = {
        name: body
        for migration in load_migrations()
        if str(migration) not in waiting
        for name, body in _FUNCTION.findall(migration.sql.decode())
        if name in _PROTECTING
    }
    rows = await fetch(pool, _SQL["functions"], {"names": [*wanted]})
    found: dict[str, list[str]] = {name: [] for name in wanted}
    for name, body in rows:
        found[name].append(body.replace("\r\n", "\n"))
    restore = "restore it from the last file in domain/database/migrations that defines it"
    return [
        _fail(f"the function {name} is not as the migrations define it", restore)
        for name, bodies in found.items()
        if bodies != [wanted[name]]
    ]


async def _digests(pool: AsyncConnectionPool) -> list[Finding]:
    """Append in each way that the application does, and recompute the digests."""
    for way in ("append_one", "append_commands", "append_one_each"):
        async with pool.connection() as connection:
            if not await _digest_matches(connection, way):
                detail = f"digests do not match what {way} records"
                return [_fail(detail, "restore event_digest, lane_of and chain_digest")]
    return []


async def _digest_matches(connection: AsyncConnection[Any], way: str) -> bool:
    """Whether an event appended in this way gets the right digests; is rolled back."""
    params = {"stream_id": f"doctor-{uuid4()}", "start": CHAIN_START}
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute(_SQL[way], params)
            cursor = await connection.execute(_SQL["try_append"], params, binary=True)
            rows = await cursor.fetchall()
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return False
    [(*stored, lane, place, before, chained)] = rows
    event = StoredEvent(*stored)
    return (
        event.digest == event_digest(event)
        and lane == lane_of(event.stream_id)
        and chained == chain_digest(lane, place, before, event.digest)
    )


async def _tried(owner_url: str) -> list[Finding]:
    findings = []
    async with await Connection.connect(
        owner_url, autocommit=True, connect_timeout=_CONNECT_SECONDS
    ) as owner:
        for table, column in _ROWS.items():
            for verb, change in _CHANGE.items():
                statement = change.format(
                    table=sql.Identifier("public", table),
                    column=sql.Identifier(column),
                    value=sql.Placeholder("digest" if column.endswith("digest") else "stream_id"),
                )
                if not await _refused(owner, f"insert_{table}", statement):
                    detail = f"{verb} of {table} is not refused to the owner (tried)"
                    findings.append(_fail(detail, "restore the triggers and their function"))
        if not await _digest_matches(owner, "insert_events"):
            detail = "an inserted event gets no digest or lane, or a wrong one (tried)"
            findings.append(_fail(detail, "restore events_digest, events_lane, their functions"))
    return findings


async def _refused(owner: AsyncConnection[Any], insert: str, statement: sql.Composed) -> bool:
    """Whether the trigger refuses to change a row, which is inserted for that."""
    try:
        async with owner.transaction(force_rollback=True):
            await owner.execute(_SQL["short_lock_timeout"])
            made = {"stream_id": f"doctor-{uuid4()}", "digest": uuid4().bytes * 2}
            await owner.execute(_SQL[insert], made)
            await owner.execute(statement, made)
    except pg.RestrictViolation:
        return True
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return False
    return False
