"""Vectors of texts: taken from the record, asked for, or owed until the provider answers."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pgvector import Vector
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.models import InlineWrite
from domain.intents.text import text_hash
from domain.similarity.embedder import DIMENSIONS, EmbeddingUnavailable
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.models import IndexKind, State

logger = logging.getLogger(__name__)

_SQL = load_statements(Path(__file__).with_name("store.sql"))

#: Vectors of texts that were searched for and belong to no intent, kept in memory: 6 KB each.
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Recording:
    """What is to be written with an intent's plan.

    Attributes:
        model: the active model, if its vector is among the writes.
        writes: the vectors, and a row that says that some are owed.
    """

    model: str | None
    writes: Sequence[InlineWrite]


@dataclass(frozen=True, slots=True)
class Located:
    """A vector of the active model, and how that model's vectors are searched."""

    model: str
    index_kind: IndexKind
    vector: Vector


@dataclass(frozen=True, slots=True)
class _InUse:
    model: str
    state: State
    index_kind: IndexKind
    known: Vector | None


def put_fact(model: str, text_sha256: bytes, embedding: Vector) -> InlineWrite:
    """The write that records a text's vector as a fact."""
    params = {"model": model, "text_sha256": text_sha256, "embedding": embedding}
    return InlineWrite(_SQL["put_fact"], params)


def put_of_intent(intent_id: UUID, tenant_id: str, model: str, embedding: Vector) -> InlineWrite:
    """The write that attaches a vector to an intent, unless its model is retired."""
    params = {
        "intent_id": intent_id,
        "tenant_id": tenant_id,
        "model": model,
        "embedding": embedding,
    }
    return InlineWrite(_SQL["put_of_intent"], params)


def as_vector(embedding: Sequence[float]) -> Vector:
    """``embedding`` as the column takes it.

    Raises:
        ValueError: it does not have `DIMENSIONS` numbers.
    """
    if len(embedding) != DIMENSIONS:
        raise ValueError(f"embedding: {len(embedding)} dimensions, expected {DIMENSIONS}")
    return Vector(list(embedding))


class EmbeddingStore:
    """Finds vectors among the recorded ones, else asks the embedder of their model."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        embedders: EmbedderRegistry,
        on_owed: Callable[[], None] = lambda: None,
    ) -> None:
        """Build it from its parts.

        Args:
            pool: of connections to the database.
            embedders: make new vectors.
            on_owed: called when a vector will be owed that nobody has been asked for.
        """
        self._pool = pool
        self._embedders = embedders
        self._on_owed = on_owed
        self._asked: OrderedDict[tuple[str, bytes], Vector] = OrderedDict()

    async def record(
        self, intent_id: UUID, tenant_id: str, text: str, *, ask: bool = True
    ) -> Recording:
        """The writes that record the vectors of ``text`` with its intent.

        One for each model in use. A vector that is not available now is recorded as owed and filled
        in later: no intent waits for its vector, or fails without one.

        Args:
            intent_id: the intent.
            tenant_id: whose it is.
            text: its sentence.
            ask: whether a provider may be asked over the network.
        """
        digest = text_hash(text)
        recorded: str | None = None
        writes: list[InlineWrite] = []
        for each in await self._in_use(digest):
            vector = each.known
            if vector is None:
                if not ask and self._embedders.is_remote(each.model):
                    self._on_owed()
                    continue
                try:
                    vector = await self._ask(each.model, text)
                except EmbeddingUnavailable as error:
                    logger.warning("intent %s goes without its vector: %s", intent_id, error)
                    continue
                except ValueError:
                    # It has no words: there is no vector, now or later.
                    return Recording(None, [])
                writes.append(put_fact(each.model, digest, vector))
            writes.append(put_of_intent(intent_id, tenant_id, each.model, vector))
            if each.state == "active":
                recorded = each.model
        writes.append(InlineWrite(_SQL["owe"], {"intent_id": intent_id, "tenant_id": tenant_id}))
        return Recording(recorded, writes)

    async def locate(self, text: str) -> Located:
        """The vector of ``text`` under the active model; a new one is not recorded by this.

        Raises:
            EmbeddingUnavailable: it is not recorded, and not available now.
            ValueError: the text has no words.
        """
        digest = text_hash(text)
        active = next(each for each in await self._in_use(digest) if each.state == "active")
        vector = active.known
        if vector is None:
            key = (active.model, digest)
            vector = self._asked.get(key) or await self._ask(active.model, text)
            self._asked[key] = vector
            self._asked.move_to_end(key)
            if len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
        return Located(active.model, active.index_kind, vector)

    async def locate_intent(self, intent_id: UUID) -> Located | None:
        """The vector of an intent under the active model; None if it has none yet."""
        [(model, kind, vector)] = await fetch(
            self._pool, _SQL["of_intent"], {"intent_id": intent_id}
        )
        return None if vector is None else Located(model, kind, vector)

    async def _in_use(self, digest: bytes) -> list[_InUse]:
        rows = await fetch(self._pool, _SQL["recorded"], {"text_sha256": digest})
        return [_InUse(*row) for row in rows]

    async def _ask(self, model: str, text: str) -> Vector:
        [embedding] = await self._embedders.of(model).embed([text])
        return as_vector(embedding)
