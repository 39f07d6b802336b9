"""``qlp tenants budget`` and what the doctor says of language models, as an operator sees them."""

from __future__ import annotations

import socket

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys
from domain.models.settings import ModelSettings
from domain.operations.doctor.models import examine_models
from domain.planning.budgets import Budget, TokenBudgets
from tests.support.openai.chat import OpenAIServer
from tests.support.postgres import Database
from tests.support.qlp import qlp


@pytest.fixture(autouse=True)
async def tenant(pool: AsyncConnectionPool) -> None:
    await ApiKeys(pool).ensure_tenant("acme")


async def test_a_budget_is_looked_at_set_and_unset(
    pool: AsyncConnectionPool, database: Database
) -> None:
    url, product = database.url, {"QLP_LLM_TOKENS_PER_DAY": "777"}
    shown = await qlp("tenants", "budget", "show", "acme", "--json", url=url, **product)
    assert shown.json == {
        "tenant": "acme",
        "tokens_per_day": 777,
        "own": None,
        "used": 0,
        "reserved": 0,
        "left": 777,
    }
    change = ("tenants", "budget", "set", "acme")
    looked = await qlp(*change, "5000", "--dry-run", "--json", url=url)
    assert (looked.json["tokens_per_day"], looked.json["dry_run"]) == (5000, True)
    assert await TokenBudgets(pool, 1).show("acme") == Budget(None, 0, 0)
    said = await qlp(*change, "5000", "--yes", url=url)
    assert "its own" in said.out
    assert await TokenBudgets(pool, 1).show("acme") == Budget(5000, 0, 0)
    await qlp(*change, "default", "--yes", url=url)
    assert await TokenBudgets(pool, 1).show("acme") == Budget(None, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("acme", "many"), "TOKENS"),
        (("acme", "1e6"), "TOKENS"),
        (("acme", "1000000000001"), "TOKENS"),
        (("nobody", "1"), "no tenant 'nobody'"),
    ],
)
async def test_a_wrong_budget_is_named(
    database: Database, arguments: tuple[str, ...], says: str
) -> None:
    said = await qlp("tenants", "budget", "set", *arguments, "--yes", url=database.url)
    assert (said.code, says in said.err) == (1, True), said


async def test_nobody_is_asked_without_a_terminal(
    pool: AsyncConnectionPool, database: Database
) -> None:
    said = await qlp("tenants", "budget", "set", "acme", "1", url=database.url)
    assert (said.code, "--yes" in said.err) == (1, True)
    assert await TokenBudgets(pool, 1).show("acme") == Budget(None, 0, 0)


class TestDoctor:
    @staticmethod
    def settings(server: OpenAIServer, **given: str) -> ModelSettings:
        return ModelSettings.model_validate({**server.environment(), **given})

    async def test_a_provider_that_has_the_model(self, openai_server: OpenAIServer) -> None:
        [finding] = await examine_models(self.settings(openai_server))
        assert (finding.status, finding.detail) == ("ok", "the provider has gpt-test")
        assert openai_server.asked == []  # nothing that costs

    async def test_no_model_is_no_fault(self) -> None:
        [finding] = await examine_models(ModelSettings())
        assert (finding.status, "none is configured" in finding.detail) == ("ok", True)

    async def test_a_wrong_key(self, openai_server: OpenAIServer) -> None:
        [finding] = await examine_models(self.settings(openai_server, OPENAI_API_KEY="sk-wrong"))
        assert (finding.status, "OPENAI_API_KEY" in finding.fix) == ("fail", True)
        assert "sk-wrong" not in str(finding)

    async def test_a_model_that_is_not_listed(self, openai_server: OpenAIServer) -> None:
        [finding] = await examine_models(self.settings(openai_server, QLP_LLM_MODEL="gone"))
        assert (finding.status, "QLP_LLM_MODEL" in finding.fix) == ("warn", True)

    async def test_a_deployment_is_not_listed_on_azure(self, openai_server: OpenAIServer) -> None:
        given = {
            "AZURE_OPENAI_ENDPOINT": openai_server.url.removesuffix("/v1"),
            "AZURE_OPENAI_API_KEY": openai_server.key,
            "QLP_LLM_MODEL": "our-deployment",
        }
        [finding] = await examine_models(ModelSettings.model_validate(given))
        assert (finding.status, "our-deployment" in finding.detail) == ("ok", True)

    async def test_nobody_answers(self, openai_server: OpenAIServer) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        [finding] = await examine_models(self.settings(openai_server, OPENAI_BASE_URL=url))
        assert (finding.status, "OPENAI_BASE_URL" in finding.fix) == ("fail", True)
