"""Embeddings as facts, missing embeddings, and the sweep that fills them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from aiohttp import web
from openai import AsyncOpenAI
from pgvector import Vector
from psycopg_pool import AsyncConnectionPool

from domain.intents.text import text_hash
from domain.models.settings import LEXICAL
from domain.similarity import openai_embedder
from domain.similarity.embedder import DIMENSIONS
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.lexical_embedder import LexicalEmbedder
from domain.similarity.models import adopt_model, count_owed, list_models
from domain.similarity.search import SimilaritySearch
from domain.similarity.status import EmbedderStatus
from domain.similarity.store import EmbeddingStore, put_of_intent
from domain.similarity.sweep import MAX_ATTEMPTS, EmbeddingSweep
from tests.support.intents.similar import CountingRegistry, add_intent, fill
from tests.support.openai.embeddings import EmbeddingsServer, error_body
from tests.support.postgres import Database

MODEL = "text-embedding-ada-002"


@pytest.fixture
def embedders() -> CountingRegistry:
    return CountingRegistry()


@pytest.fixture
def embeddings(pool: AsyncConnectionPool, embedders: CountingRegistry) -> EmbeddingStore:
    return EmbeddingStore(pool, embedders)


@pytest.fixture
def provider(
    embeddings_server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch
) -> EmbedderRegistry:
    """Has time for an answer, and none to ask again."""
    for name in ("_FIRST_WAIT", "_LONGEST_WAIT"):
        monkeypatch.setattr(openai_embedder, name, 1_000.0)
    client = AsyncOpenAI(api_key="k", base_url=embeddings_server.url, max_retries=0)
    return EmbedderRegistry(client, budget_seconds=60, pause_seconds=0.0)


async def query(pool: AsyncConnectionPool, statement: str, *params: Any) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(statement.encode(), params)).fetchall()


async def vectors_of(pool: AsyncConnectionPool, intent_id: UUID) -> list[str]:
    found = await query(
        pool, "select model from intent_embeddings where intent_id = %s order by 1", intent_id
    )
    return [model for (model,) in found]


async def fact(pool: AsyncConnectionPool, model: str, text: str) -> list[float] | None:
    rows = await query(
        pool,
        "select embedding from embeddings where model = %s and text_sha256 = %s",
        model,
        text_hash(text),
    )
    return rows[0][0].to_list() if rows else None


async def test_a_text_is_embedded_once_whoever_asks(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool, embedders: CountingRegistry
) -> None:
    await add_intent(pool, embeddings, "sort a list")
    await add_intent(pool, embeddings, "  sort a list\n", "other")
    assert embedders.lexical.asked == ["sort a list"]
    [fresh] = await LexicalEmbedder().embed(["sort a list"])
    assert await fact(pool, LEXICAL, "sort a list ") == pytest.approx(fresh, abs=1e-7)
    assert await fact(pool, "another model", "sort a list") is None


async def test_a_search_asks_once_for_a_sentence_that_nobody_submitted(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool, embedders: CountingRegistry
) -> None:
    for _ in range(3):
        await embeddings.locate("sort a list")
    assert embedders.lexical.asked == ["sort a list"]
    assert await fact(pool, LEXICAL, "sort a list") is None


async def test_recording_an_embedding_again_changes_nothing(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool
) -> None:
    intent_id = await add_intent(pool, embeddings, "sort a list")
    other = Vector([1.0] + [0.0] * (DIMENSIONS - 1))
    write = put_of_intent(intent_id, "acme", LEXICAL, other)
    async with pool.connection() as connection:
        await connection.execute(write.statement, write.params)
    [(kept,)] = await query(pool, "select embedding from intents where id = %s", intent_id)
    assert kept != other


async def test_a_text_without_words_has_no_vector_and_none_is_owed(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool
) -> None:
    intent_id = await add_intent(pool, embeddings, "___")
    assert await vectors_of(pool, intent_id) == []
    assert await count_owed(pool) == 0


async def test_an_empty_database_takes_up_the_model_of_the_settings_once(
    pool: AsyncConnectionPool, provider: EmbedderRegistry, embeddings_server: EmbeddingsServer
) -> None:
    assert await adopt_model(pool, MODEL)
    assert not await adopt_model(pool, MODEL)
    assert [(m.model, m.state, m.index_kind) for m in await list_models(pool)] == [
        (MODEL, "active", "binary")
    ]
    intent_id = await add_intent(pool, EmbeddingStore(pool, provider), "sort a list")
    assert await vectors_of(pool, intent_id) == [MODEL]
    assert embeddings_server.texts == ["sort a list"]

    assert not await adopt_model(pool, LEXICAL)
    report = await EmbedderStatus(pool, provider, LEXICAL).report()
    assert report.active == MODEL
    assert report.difference is not None
    assert report.difference.endswith("qlp embeddings migrate --to lexical-v1")


@pytest.mark.parametrize("model", ["", "a b", "x'; drop table events", "m@0", "é", "m" * 121])
async def test_a_name_that_is_none_is_refused(pool: AsyncConnectionPool, model: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await adopt_model(pool, model)


async def test_embeddings_that_an_outage_left_missing_are_made_when_it_is_over(
    pool: AsyncConnectionPool, provider: EmbedderRegistry, embeddings_server: EmbeddingsServer
) -> None:
    await adopt_model(pool, MODEL)
    store, sweep = EmbeddingStore(pool, provider), EmbeddingSweep(pool, provider)
    status = EmbedderStatus(pool, provider, MODEL)
    await embeddings_server.stop()
    ids = [await add_intent(pool, store, f"sort list {number}") for number in range(3)]
    assert await count_owed(pool) == 3
    problem = (await status.report()).problem
    assert problem is not None
    assert "cannot be reached" in problem
    assert "3 are owed" in problem
    assert await sweep.run() == 0
    assert await count_owed(pool) == 3

    await embeddings_server.start()
    assert await sweep.run() == 3
    assert [await vectors_of(pool, each) for each in ids] == [[MODEL]] * 3
    assert await count_owed(pool) == 0
    assert len(embeddings_server.requests) == 1
    assert (await status.report()).problem is None
    search = SimilaritySearch(pool, store)
    found = await search.by_text("acme", "sort list 1")
    assert found.items[0].intent.id == ids[1]
    assert await sweep.run() == 0


async def test_a_repeated_sweep_asks_for_no_embedding_twice(
    pool: AsyncConnectionPool, provider: EmbedderRegistry, embeddings_server: EmbeddingsServer
) -> None:
    await adopt_model(pool, MODEL)
    store, sweep = EmbeddingStore(pool, provider), EmbeddingSweep(pool, provider)
    await embeddings_server.stop()
    intent_id = await add_intent(pool, store, "sort a list")
    await embeddings_server.start()
    await sweep.run()
    # As after a death between the facts and what they are attached to.
    async with pool.connection() as connection:
        await connection.execute(
            "insert into embeddings_owed (intent_id, tenant_id) values (%s, 'acme')", [uuid4()]
        )
        await connection.execute(
            "insert into embeddings_owed (intent_id, tenant_id) values (%s, 'acme')", [intent_id]
        )
    await sweep.run()
    assert embeddings_server.texts == ["sort a list"]


async def test_a_text_that_the_provider_refuses_is_given_up_and_holds_up_no_other(
    pool: AsyncConnectionPool, provider: EmbedderRegistry, embeddings_server: EmbeddingsServer
) -> None:
    async def refuse(_number: int, body: dict[str, Any]) -> web.Response | None:
        if any("forbidden" in text for text in body["input"]):
            return web.json_response(error_body("content_filter", "forbidden words"), status=400)
        return None

    await adopt_model(pool, MODEL)
    store, sweep = EmbeddingStore(pool, provider), EmbeddingSweep(pool, provider)
    await embeddings_server.stop()
    bad = await add_intent(pool, store, "something forbidden")
    good = await add_intent(pool, store, "something else")
    await embeddings_server.start()
    embeddings_server.trouble = refuse
    for _ in range(MAX_ATTEMPTS):
        await sweep.run()
        await query(pool, "update embeddings_owed set next_attempt_at = now() returning 1")
    assert await count_owed(pool) == 0
    assert (await vectors_of(pool, good), await vectors_of(pool, bad)) == ([MODEL], [])


async def test_what_takes_few_texts_at_once_is_given_few(
    pool: AsyncConnectionPool, provider: EmbedderRegistry, embeddings_server: EmbeddingsServer
) -> None:
    async def refuse(_number: int, body: dict[str, Any]) -> web.Response | None:
        if len(body["input"]) > 10:
            return web.json_response(error_body("InvalidParameter", "batch size"), status=400)
        return None

    await adopt_model(pool, MODEL)
    store, sweep = EmbeddingStore(pool, provider), EmbeddingSweep(pool, provider)
    await embeddings_server.stop()
    for number in range(60):
        await add_intent(pool, store, f"sort list {number}")
    await embeddings_server.start()
    embeddings_server.trouble = refuse
    await sweep.run()
    assert await count_owed(pool) == 0
    # One at a time, it would have taken sixty.
    taken = [body for body in embeddings_server.requests if 1 < len(body["input"]) <= 10]
    assert len(taken) == 8


async def test_without_its_provider_the_active_model_is_a_problem_that_names_the_fix(
    pool: AsyncConnectionPool,
) -> None:
    await adopt_model(pool, MODEL)
    bare = EmbedderRegistry(None)
    intent_id = await add_intent(pool, EmbeddingStore(pool, bare), "sort a list")
    assert await vectors_of(pool, intent_id) == []
    problem = (await EmbedderStatus(pool, bare, LEXICAL).report()).problem
    assert problem is not None
    assert "OPENAI_API_KEY" in problem
    assert "qlp embeddings migrate --to lexical-v1" in problem


async def test_vectors_of_another_model_are_never_compared(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool, database: Database
) -> None:
    async with await psycopg.AsyncConnection.connect(database.admin_url) as connection:
        await connection.execute("select open_embedding_model('another', 'retired', 'exact')")
    await fill(database, "another", acme=3)
    found = await SimilaritySearch(pool, embeddings).by_text("acme", "filler")
    assert found.items == []
    rows = await query(pool, "select count(*) from intents where embedding is not null")
    assert rows == [(0,)]
