"""Embeddings as facts, and the search for similar intents."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from uuid import UUID, uuid4

import psycopg
import pytest
from pgvector import Vector
from pgvector.psycopg import register_vector_async
from psycopg_pool import AsyncConnectionPool

from domain.similarity import store as module
from domain.similarity.embedder import DIMENSIONS, LexicalEmbedder, text_hash
from domain.similarity.store import EmbeddingStore, store_embedding
from tests.fixtures.postgres import Database

#: The query of the decision record that chose pgvector, as it stands there.
RECORDED_QUERY = """
    SELECT id, user_input, 1 - (embedding <=> %s) AS similarity
    FROM intents
    WHERE embedding IS NOT NULL
    ORDER BY embedding <=> %s
    LIMIT 5
"""


class CountingEmbedder(LexicalEmbedder):
    """Counts the texts that were paid for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += texts
        return await super().embed(texts)


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def embeddings(pool: AsyncConnectionPool, embedder: CountingEmbedder) -> EmbeddingStore:
    return EmbeddingStore(pool, embedder)


async def add_intent(
    pool: AsyncConnectionPool, embeddings: EmbeddingStore, text: str, tenant_id: str = "acme"
) -> UUID:
    intent_id = uuid4()
    writes = await embeddings.writes_for(intent_id, tenant_id, text)
    async with pool.connection() as connection:
        await connection.execute(
            """insert into intent_states (id, tenant_id, version, status, user_input, created_at,
            updated_at) values (%s, %s, 1, 'succeeded', %s, now(), now())""",
            [intent_id, tenant_id, text],
        )
        for write in writes:
            await connection.execute(write.statement, write.params)
    return intent_id


def somewhere(generator: random.Random) -> list[float]:
    """A vector in a random direction."""
    return [value / 2**31 for value in array("i", generator.randbytes(4 * DIMENSIONS))]


async def fill(database: Database, model: str, **counts: int) -> None:
    """Intents at random places for each tenant; the index is built afterwards, which is faster."""
    generator = random.Random(7)
    rows = [(uuid4(), tenant, model) for tenant, count in counts.items() for _ in range(count)]
    async with await psycopg.AsyncConnection.connect(database.admin_url) as connection:
        await register_vector_async(connection)
        found = await connection.execute(
            "select pg_get_indexdef('intent_embeddings_hnsw'::regclass)"
        )
        [[definition]] = await found.fetchall()
        await connection.execute("drop index intent_embeddings_hnsw")
        cursor = connection.cursor()
        await cursor.executemany(
            """insert into intent_states (id, tenant_id, version, status, user_input, created_at,
            updated_at) values (%s, %s, 1, 'succeeded', 'filler', now(), now())""",
            [row[:2] for row in rows],
        )
        async with cursor.copy(
            """copy intent_embeddings (intent_id, tenant_id, model, embedding)
            from stdin (format binary)"""
        ) as copy:
            copy.set_types(["uuid", "text", "text", "vector"])
            for row in rows:
                await copy.write_row((*row, Vector(somewhere(generator))))
        await connection.execute(definition)
        await connection.execute("analyze")


async def test_the_nearest_intents_of_the_tenant_come_first(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool
) -> None:
    same = await add_intent(pool, embeddings, "Plot the monthly totals of this CSV file")
    close = await add_intent(pool, embeddings, "plot monthly totals from a CSV")
    far = await add_intent(pool, embeddings, "resize an image to a square")
    await add_intent(pool, embeddings, "plot the monthly totals of this CSV file", "other")
    wanted = await embeddings.embedding_of("plot the monthly totals of this csv file")

    found = await embeddings.similar("acme", wanted)
    assert [item.id for item in found] == [same, close, far]
    assert found[0].similarity == pytest.approx(1.0, abs=1e-6)
    assert found[0].status == "succeeded"
    assert found[1].similarity > 0.5 > found[2].similarity
    assert [item.id for item in await embeddings.similar("acme", wanted, 1, without=same)] == [
        close
    ]


async def test_a_text_is_embedded_once_whoever_asks(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool, embedder: CountingEmbedder
) -> None:
    await add_intent(pool, embeddings, "sort a list")
    await add_intent(pool, embeddings, "  Sort A  List ", "other")
    assert embedder.asked == ["sort a list"]
    kept = await embeddings.find_embedding(embeddings.model, text_hash("SORT a list"))
    [fresh] = await embedder.embed(["sort a list"])
    assert kept == pytest.approx(fresh, abs=1e-7)
    assert await embeddings.find_embedding("another model", text_hash("sort a list")) is None


async def test_recording_an_embedding_again_changes_nothing(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool
) -> None:
    intent_id = await add_intent(pool, embeddings, "sort a list")
    other = [1.0] + [0.0] * (DIMENSIONS - 1)
    writes = store_embedding(intent_id, "acme", embeddings.model, text_hash("sort a list"), other)
    async with pool.connection() as connection:
        for write in writes:
            await connection.execute(write.statement, write.params)
    kept = await embeddings.find_embedding(embeddings.model, text_hash("sort a list"))
    assert kept is not None
    assert kept != other


async def test_vectors_of_another_model_are_never_compared(
    embeddings: EmbeddingStore, database: Database
) -> None:
    await fill(database, "another-model", acme=3)
    assert await embeddings.similar("acme", [1.0] * DIMENSIONS) == []


async def test_the_index_finds_what_exact_search_finds_among_several_tenants(
    embeddings: EmbeddingStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, embeddings.model, acme=1_000, other=1_000)
    generator = random.Random(1)
    hits = 0
    for _ in range(20):
        wanted = somewhere(generator)
        exact = await embeddings.similar("acme", wanted)
        with monkeypatch.context() as patch:
            patch.setattr(module, "EXACT_UP_TO", 100)
            indexed = await embeddings.similar("acme", wanted)
        assert len(indexed) == 5
        hits += len({item.id for item in exact} & {item.id for item in indexed})
    # Random directions are the hardest case there is: no neighbourhoods for the graph to follow.
    assert hits >= 60


async def test_the_recorded_query_runs_as_written_and_uses_the_index(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool, database: Database
) -> None:
    await fill(database, embeddings.model, acme=3_000)
    intent_id = await add_intent(pool, embeddings, "sort a list")
    async with pool.connection() as connection:
        await connection.execute(
            """insert into intent_states (id, tenant_id, version, status, user_input, created_at,
            updated_at) values (gen_random_uuid(), 'acme', 1, 'submitted', '', now(), now())"""
        )
        wanted = Vector(await embeddings.embedding_of("sort a list"))
        found = await (await connection.execute(RECORDED_QUERY, [wanted, wanted])).fetchall()
        plan = await (
            await connection.execute(f"explain {RECORDED_QUERY}", [wanted, wanted])
        ).fetchall()
    assert len(found) == 5
    assert found[0][0] == intent_id
    assert found[0][2] == pytest.approx(1.0, abs=1e-6)
    text = "\n".join(line for (line,) in plan)
    assert "Index Scan using intent_embeddings_hnsw" in text, text
    assert "Sort" not in text, text


@pytest.mark.parametrize("limit", [0, 51])
async def test_the_number_of_results_is_bounded(embeddings: EmbeddingStore, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        await embeddings.similar("acme", [0.0] * DIMENSIONS, limit)


async def test_a_vector_of_the_wrong_size_is_refused(embeddings: EmbeddingStore) -> None:
    with pytest.raises(ValueError, match="expected 1536"):
        await embeddings.similar("acme", [1.0, 2.0])
