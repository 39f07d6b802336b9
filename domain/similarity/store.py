"""Embeddings as recorded facts, and the search for similar intents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pgvector import Vector
from psycopg_pool import AsyncConnectionPool

from domain.database import fetch
from domain.eventlog.models import InlineWrite
from domain.similarity.embedder import DIMENSIONS, Embedder, text_hash
from domain.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("store.sql"))

#: Up to this many vectors of a tenant, comparing all of them is faster than the index, and exact.
#: Measured: 968 rows take 2.1 ms; the index with a filter on 1 % of the rows takes 21 ms.
EXACT_UP_TO = 4_000

MAX_SIMILAR = 50


@dataclass(frozen=True, slots=True)
class SimilarIntent:
    """A past intent and its cosine similarity, -1 to 1."""

    id: UUID
    user_input: str
    status: str
    similarity: float


def store_embedding(
    intent_id: UUID, tenant_id: str, model: str, text_sha256: bytes, embedding: Sequence[float]
) -> list[InlineWrite]:
    """Writes that record a text's vector as a fact and attach it to an intent.

    Raises:
        ValueError: the vector does not have `DIMENSIONS` numbers.
    """
    params = {
        "intent_id": intent_id,
        "tenant_id": tenant_id,
        "model": model,
        "text_sha256": text_sha256,
        "embedding": _vector(embedding),
    }
    return [InlineWrite(_SQL["put_fact"], params), InlineWrite(_SQL["put_of_intent"], params)]


class EmbeddingStore:
    """Vectors of one embedder; each text is paid for once."""

    def __init__(self, pool: AsyncConnectionPool, embedder: Embedder) -> None:
        self._pool = pool
        self._embedder = embedder

    @property
    def model(self) -> str:
        """The embedder's model."""
        return self._embedder.model

    async def writes_for(self, intent_id: UUID, tenant_id: str, text: str) -> list[InlineWrite]:
        """The writes that record the vector of ``text`` with its intent.

        The embedder is asked only if the text has never been recorded under its model.
        """
        embedding = await self.embedding_of(text)
        return store_embedding(intent_id, tenant_id, self.model, text_hash(text), embedding)

    async def embedding_of(self, text: str) -> list[float]:
        """The recorded vector of ``text``, else a new one (which is not recorded by this)."""
        known = await self.find_embedding(self.model, text_hash(text))
        return known if known is not None else (await self._embedder.embed([text]))[0]

    async def find_embedding(self, model: str, text_sha256: bytes) -> list[float] | None:
        """The vector recorded for a text under a model; None if there is none."""
        rows = await fetch(self._pool, _SQL["find"], {"model": model, "text_sha256": text_sha256})
        return rows[0][0].to_list() if rows else None

    async def similar(
        self,
        tenant_id: str,
        embedding: Sequence[float],
        limit: int = 5,
        *,
        without: UUID | None = None,
    ) -> list[SimilarIntent]:
        """The tenant's intents whose vectors of this model are nearest, nearest first.

        Args:
            tenant_id: whose intents.
            embedding: `DIMENSIONS` numbers.
            limit: 1 to `MAX_SIMILAR`.
            without: an intent to leave out, usually the one that asks.

        Raises:
            ValueError: the limit or the vector is out of bounds.
        """
        if not 1 <= limit <= MAX_SIMILAR:
            raise ValueError(f"limit: {limit}, allowed are 1 to {MAX_SIMILAR}")
        own = {"tenant_id": tenant_id, "model": self.model}
        [[count]] = await fetch(
            self._pool, _SQL["count_of_tenant"], {**own, "limit": EXACT_UP_TO + 1}
        )
        params = {**own, "embedding": _vector(embedding), "limit": limit, "without": without}
        name = "similar_exact" if count <= EXACT_UP_TO else "similar_indexed"
        return [SimilarIntent(*row) for row in await fetch(self._pool, _SQL[name], params)]


def _vector(embedding: Sequence[float]) -> Vector:
    if len(embedding) != DIMENSIONS:
        raise ValueError(f"embedding: {len(embedding)} dimensions, expected {DIMENSIONS}")
    return Vector(list(embedding))
