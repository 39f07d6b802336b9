"""What operators and readers can rely on while a projection is rebuilt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.database import open_pool
from domain.operations.projections import rebuild, verify
from domain.projections.rebuild_contract import Progress, RebuildFailed
from domain.projections.registry import NAMES, Projections
from tests.fixtures.postgres import Database
from tests.integration.projections.histories import Histories, table


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[AsyncConnectionPool]:
    """The pool of the tables' owner."""
    opened = await open_pool(
        database.admin_url, min_size=1, max_size=4, role="none", application_name="tests-owner"
    )
    yield opened
    await opened.close()


def ignore(_progress: Progress) -> None:
    pass


ROWS = {
    "intent_states": b"select * from intent_states order by id",
    "usage_daily": b"select * from usage_daily order by tenant_id, day",
    "error_patterns": b"select * from error_patterns order by tenant_id, code, cause",
}


@pytest.mark.parametrize("name", NAMES)
async def test_a_rebuild_gives_what_was_there(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool, name: str
) -> None:
    await Histories.over(pool).mixture(20)
    await Projections(pool).run_until_caught_up()
    before = await table(pool, ROWS[name])
    rebuilt = await rebuild(owner, name, on_progress=ignore, page=37).run()
    assert await table(pool, ROWS[name]) == before
    assert (await verify(pool, name)).differing == 0
    [[events]] = await table(pool, b"select count(*) from events")
    assert rebuilt.events == events
