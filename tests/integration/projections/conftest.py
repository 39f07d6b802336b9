"""What tests of rebuilding share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.database import open_pool
from tests.fixtures.postgres import Database


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[AsyncConnectionPool]:
    """The pool of the tables' owner."""
    opened = await open_pool(
        database.admin_url, min_size=1, max_size=4, role="none", application_name="tests-owner"
    )
    yield opened
    await opened.close()
