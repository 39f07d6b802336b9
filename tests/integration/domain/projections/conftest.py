"""What tests of projections share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import open_pool
from domain.projections.following import runner
from tests.support.postgres import Database


@pytest.fixture(autouse=True)
def patient_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that gets no turn in time reads nothing: under load, a second may be too short."""
    monkeypatch.setattr(runner, "TURN_SECONDS", 60.0)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[AsyncConnectionPool]:
    """The pool of the tables' owner."""
    opened = await open_pool(
        database.admin_url, min_size=1, max_size=4, role="none", application_name="tests-owner"
    )
    yield opened
    await opened.close()
