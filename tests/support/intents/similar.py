"""Intents with vectors, for tests of the search."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from uuid import UUID, uuid4

import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector_async
from psycopg_pool import AsyncConnectionPool

from domain.intents.ids import new_id
from domain.intents.text import text_hash
from domain.models.settings import LEXICAL
from domain.similarity.embedder import DIMENSIONS, Embedder
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.lexical_embedder import LexicalEmbedder
from domain.similarity.store import EmbeddingStore, Recording
from tests.support.postgres import Database

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


class CountingRegistry(EmbedderRegistry):
    """The lexical embedder, counted."""

    def __init__(self) -> None:
        super().__init__(None)
        self.lexical = CountingEmbedder()

    def of(self, model: str) -> Embedder:
        return self.lexical if model == LEXICAL else super().of(model)


async def add_intent(
    pool: AsyncConnectionPool,
    embeddings: EmbeddingStore,
    text: str,
    tenant_id: str = "acme",
    status: str = "succeeded",
    language: str | None = None,
    days_ago: int = 0,
) -> UUID:
    """An intent with its vector, or with the record that the vector is missing."""
    intent_id = uuid4()
    recording: Recording = await embeddings.record(intent_id, tenant_id, text)
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(
            """insert into intent_states (id, tenant_id, version, status, user_input, text_sha256,
            language, created_at, updated_at)
            values (%s, %s, 1, %s, %s, %s, %s, now() - make_interval(days => %s), now())""",
            [intent_id, tenant_id, status, text, text_hash(text), language, days_ago],
        )
        for write in recording.writes:
            await connection.execute(write.statement, write.params)
    return intent_id


def somewhere(generator: random.Random) -> list[float]:
    """A vector in a random direction."""
    return [value / 2**31 for value in array("i", generator.randbytes(4 * DIMENSIONS))]


async def fill(
    database: Database, model: str = LEXICAL, language: str | None = None, **counts: int
) -> None:
    """Intents at random places for each tenant; the index is built afterwards, which is faster."""
    generator = random.Random(7)
    rows = [(new_id(), tenant, model) for tenant, count in counts.items() for _ in range(count)]
    async with await psycopg.AsyncConnection.connect(database.admin_url) as connection:
        await register_vector_async(connection)
        found = await connection.execute(
            """select indexrelid::regclass::text, pg_get_indexdef(indexrelid)
            from pg_index where indrelid = 'intent_embeddings_1'::regclass
            and pg_get_indexdef(indexrelid) ~ 'hnsw|ivfflat'"""
        )
        indexes = await found.fetchall()
        for name, _ in indexes:
            await connection.execute(f"drop index {name}")
        cursor = connection.cursor()
        await cursor.executemany(
            """insert into intent_states (id, tenant_id, version, status, user_input, text_sha256,
            language, created_at, updated_at)
            values (%s, %s, 1, 'succeeded', 'filler', sha256('filler'), %s, now(), now())""",
            [(*row[:2], language) for row in rows],
        )
        async with cursor.copy(
            """copy intent_embeddings (intent_id, tenant_id, model, embedding)
            from stdin (format binary)"""
        ) as copy:
            copy.set_types(["uuid", "text", "text", "vector"])
            for row in rows:
                await copy.write_row((*row, Vector(somewhere(generator))))
        for _, definition in indexes:
            await connection.execute(definition)
        await connection.execute("analyze")
