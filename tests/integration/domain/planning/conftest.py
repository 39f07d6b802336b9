"""A planner over a real database and a server that speaks the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys
from domain.models.client import open_client
from domain.models.settings import ModelSettings
from domain.planning.planner import Planner, make_planner
from tests.support.intents.planning import Planners, Remembered
from tests.support.openai.chat import OpenAIServer


@pytest.fixture
def memory() -> Remembered:
    return Remembered()


@pytest.fixture
async def planners(
    openai_server: OpenAIServer, pool: AsyncConnectionPool, memory: Remembered
) -> AsyncIterator[Planners]:
    """Makes planners that ask the server, with settings by name."""
    await ApiKeys(pool).ensure_tenant("acme")
    clients = []

    async def make(**given: Any) -> Planner:
        settings = ModelSettings.model_validate({**openai_server.environment(), **given})
        client = open_client(settings)
        clients.append(client)
        return make_planner(settings, client, pool, memory)

    yield make
    for client in clients:
        if client is not None:
            await client.close()


@pytest.fixture
async def planner(planners: Planners) -> Planner:
    return await planners()
