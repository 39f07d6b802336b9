"""Gives intents their vectors under one model, page by page; pays for none that is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from uuid import UUID

from pgvector import Vector
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.similarity.embedder import Embedder, EmbeddingUnavailable
from domain.similarity.store import as_vector, put_fact, put_of_intent

_SQL = load_statements(Path(__file__).with_name("filling.sql"))


@dataclass(frozen=True, slots=True)
class TextOf:
    """An intent's text, and `domain.intents.text.text_hash` of it."""

    intent_id: UUID
    tenant_id: str
    text: str
    text_sha256: bytes


async def fill(
    pool: AsyncConnectionPool, embedder: Embedder, texts: Sequence[TextOf]
) -> list[UUID]:
    """Record the vectors of ``texts`` under the embedder's model; returns intents it refuses.

    Vectors are recorded by text as soon as they are there, then attached to intents. After a kill
    in between, a repetition finds the recorded ones and pays for nothing again.

    Raises:
        EmbeddingUnavailable: an outage, or a setting that has to be corrected.
    """
    by_hash = {each.text_sha256: each.text for each in texts}
    params = {"model": embedder.model, "hashes": list(by_hash)}
    known: dict[bytes, Vector] = dict(await fetch(pool, _SQL["known"], params))
    missing = {digest: text for digest, text in by_hash.items() if digest not in known}
    if missing:
        new = await _request(embedder, missing)
        async with pool.connection() as connection, connection.transaction():
            for digest, vector in new.items():
                write = put_fact(embedder.model, digest, vector)
                await connection.execute(write.statement, write.params)
        known |= new
    async with pool.connection() as connection, connection.transaction():
        for each in texts:
            found = known.get(each.text_sha256)
            if found is not None:
                write = put_of_intent(each.intent_id, each.tenant_id, embedder.model, found)
                await connection.execute(write.statement, write.params)
    return [each.intent_id for each in texts if each.text_sha256 not in known]


async def _request(embedder: Embedder, missing: dict[bytes, str]) -> dict[bytes, Vector]:
    """The vectors of the texts that the embedder accepts; a refused batch is asked for in halves.

    So refused texts are found, and a batch that was only too large is still accepted.
    """
    try:
        vectors = await embedder.embed(list(missing.values()))
    except (EmbeddingUnavailable, ValueError) as error:
        if isinstance(error, EmbeddingUnavailable) and error.kind != "text":
            raise
        if len(missing) == 1:
            return {}
        texts = iter(missing.items())
        half = dict(islice(texts, len(missing) // 2))
        return {**await _request(embedder, half), **await _request(embedder, dict(texts))}
    return {digest: as_vector(v) for digest, v in zip(missing, vectors, strict=True)}
