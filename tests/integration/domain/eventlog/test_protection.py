"""Recorded events cannot be changed, and the application can only do what it must."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from tests.support.postgres import Database

CHANGES = ["update events set type = 'Other'", "delete from events", "truncate events"]


@pytest.fixture(autouse=True)
async def one_event(event_log: EventLog) -> None:
    await event_log.append("s-1", "acme", 0, uuid4(), [NewEvent(uuid4(), "T", 1, {})], {})


@pytest.mark.parametrize("change", CHANGES)
async def test_events_cannot_be_changed_by_the_application(
    pool: AsyncConnectionPool, change: str
) -> None:
    async with pool.connection() as connection:
        with pytest.raises(pg.InsufficientPrivilege):
            await connection.execute(change.encode())


@pytest.mark.parametrize("change", CHANGES)
async def test_events_cannot_be_changed_by_their_owner(
    database: Database, event_log: EventLog, change: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database.admin_url) as connection:
        with pytest.raises(pg.RestrictViolation, match="immutable"):
            await connection.execute(change.encode())
    [event] = await event_log.read_stream("s-1")
    assert event.type == "T"


@pytest.mark.parametrize(
    "statement",
    [
        "insert into events (event_id, stream_id, version, type, schema_version, tenant_id,"
        " command_id, metadata, data) values (gen_random_uuid(), 's-1', 2, 'T', 1, 'acme',"
        " gen_random_uuid(), '{}', '{}')",
        "delete from followers",
        "insert into schema_migrations values (999, 'x', 'x')",
        "drop table events",
        "alter table events disable trigger all",
        "create table own (id int)",
        "update embeddings set model = 'x'",
        "delete from intent_states",
        "delete from tenants",
        "set role postgres",
    ],
)
async def test_the_application_can_do_no_more_than_it_must(
    pool: AsyncConnectionPool, statement: str
) -> None:
    async with pool.connection() as connection:
        with pytest.raises(pg.InsufficientPrivilege):
            await connection.execute(statement.encode())


async def test_the_application_acts_as_its_role_with_limits(pool: AsyncConnectionPool) -> None:
    async with pool.connection() as connection:
        rows = await connection.execute(
            """select current_user, current_setting('statement_timeout'),
            current_setting('lock_timeout'), current_setting('hnsw.ef_search'),
            current_setting('idle_in_transaction_session_timeout')"""
        )
        assert await rows.fetchone() == ("qlp_app", "30s", "10s", "120", "30s")
