"""Searches for similar intents; which query plan is best depends on how many there are."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.projections.intents import IntentRow
from domain.similarity.models import QUERY_OF, IndexKind
from domain.similarity.store import EmbeddingStore, Located

_SQL = load_statements(Path(__file__).with_name("search.sql"))

#: Up to this many rows, comparing all of them is exact and no slower than the index with a
#: condition on them; docs/benchmarks.md has the figures.
EXACT_UP_TO = 4_000

MAX_SIMILAR = 50

#: How many of the nearest by sign bits are compared exactly. Fewer than hnsw.ef_search (120): a
#: scan that is asked for all that it has found starts over for the few that a condition removed.
CANDIDATES = 100


def _parts(*names: str) -> bytes:
    return b"\n".join(_SQL[name] for name in names)


def _query(*names: str) -> bytes:
    return b"with candidates as materialized (\n%s\n)\n%s" % (_parts(*names), _SQL["nearest"])


#: By plan (`QUERY_OF` a kind of index), and whether there are conditions on the intent.
QUERIES = {
    ("exact", False): _query("of_tenant"),
    ("exact", True): _query("of_tenant_by_intent", "conditions"),
    **{(order, False): _query("of_tenant", order) for order in ("binary", "vector", "halfvec")},
    **{
        (order, True): _query("of_tenant_joined", "conditions", order)
        for order in ("binary", "vector", "halfvec")
    },
}

_COUNT_MATCHING = b"select count(*) from (\n%s\n) counted" % _parts(
    "intents_of_tenant", "conditions", "at_most"
)

_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_REMEMBERED_TENANTS = 10_000

#: How long a small tenant is assumed to be small still, seconds. If it has grown meanwhile, the
#: search takes longer and finds the same.
_SMALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which intents count.

    Attributes:
        statuses: one of these; None for all.
        created_after: created then or later.
        created_before: created earlier.
        language: of the program.
        reused: also those that ran the program of another intent.
        without: an intent to leave out, usually the one that asks.
        threshold: least cosine similarity, -1 to 1.
    """

    statuses: Sequence[str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    language: str | None = None
    reused: bool = True
    without: UUID | None = None
    threshold: float = -1.0

    @property
    def any_of_intent(self) -> bool:
        """Whether there is a condition on the intent's own row."""
        given = (self.statuses, self.created_after, self.created_before, self.language)
        return not self.reused or any(value is not None for value in given)


@dataclass(frozen=True, slots=True)
class SimilarIntent:
    """A past intent and its cosine similarity, -1 to 1; ``intent.outcome`` is left out."""

    similarity: float
    intent: IntentRow


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found, nearest first, under which model."""

    model: str
    items: list[SimilarIntent]


class SimilaritySearch:
    """Searches the intents of one tenant at a time, by the active model."""

    def __init__(self, pool: AsyncConnectionPool, embeddings: EmbeddingStore) -> None:
        self._pool = pool
        self._embeddings = embeddings
        # By tenant and model: whether the tenant is large, and until when that is known. Vectors
        # are only ever added to a model, so a large tenant stays large.
        self._sizes: dict[tuple[str, str], tuple[bool, float]] = {}

    async def by_text(
        self,
        tenant_id: str,
        text: str,
        limit: int = 5,
        conditions: Conditions = Conditions(),
    ) -> Found:
        """The tenant's intents most similar to ``text``.

        Args:
            tenant_id: whose intents.
            text: any sentence; its vector is taken from the store if it was ever recorded.
            limit: 1 to `MAX_SIMILAR`.
            conditions: which intents count.

        Raises:
            EmbeddingUnavailable: the text's vector is not available now.
            ValueError: the text has no words, or the limit is out of bounds.
        """
        return await self._near(tenant_id, await self._embeddings.locate(text), limit, conditions)

    async def by_intent(
        self,
        intent: IntentRow,
        limit: int = 5,
        conditions: Conditions = Conditions(),
    ) -> Found:
        """The intents of the same tenant most similar to one of its own.

        Raises:
            EmbeddingUnavailable: the intent has no vector yet, and none is available now.
            ValueError: its text has no words, or the limit is out of bounds.
        """
        located = await self._embeddings.locate_intent(intent.id)
        if located is None:
            located = await self._embeddings.locate(intent.user_input)
        others = replace(conditions, without=intent.id)
        return await self._near(intent.tenant_id, located, limit, others)

    async def _near(
        self, tenant_id: str, located: Located, limit: int, conditions: Conditions
    ) -> Found:
        if not 1 <= limit <= MAX_SIMILAR:
            raise ValueError(f"limit: {limit}, allowed are 1 to {MAX_SIMILAR}")
        params = {
            "tenant_id": tenant_id,
            "model": located.model,
            "embedding": located.vector,
            "limit": limit,
            "candidates": CANDIDATES,
            "most": EXACT_UP_TO + 1,
            "without": conditions.without,
            "threshold": conditions.threshold,
            "statuses": None if conditions.statuses is None else list(conditions.statuses),
            "created_after": conditions.created_after or _EARLIEST,
            "created_before": conditions.created_before or _LATEST,
            "language": conditions.language,
            "reused": conditions.reused,
        }
        filtered = conditions.any_of_intent
        plan = await self._plan(located.index_kind, params, filtered)
        rows = await fetch(self._pool, QUERIES[plan, filtered], params)
        return Found(located.model, [SimilarIntent(row[0], IntentRow(*row[1:])) for row in rows])

    async def _plan(self, kind: IndexKind, params: dict[str, Any], filtered: bool) -> str:
        if kind == "exact" or not await self._is_large(params):
            return "exact"
        if filtered:
            [[matching]] = await fetch(self._pool, _COUNT_MATCHING, params)
            if matching <= EXACT_UP_TO:
                return "exact"
        return QUERY_OF[kind]

    async def _is_large(self, params: dict[str, Any]) -> bool:
        key = (params["tenant_id"], params["model"])
        large, until = self._sizes.get(key, (False, 0.0))
        if (now := time.monotonic()) < until:
            return large
        [[count]] = await fetch(self._pool, _SQL["count_of_tenant"], params)
        large = int(count) > EXACT_UP_TO
        if len(self._sizes) >= _REMEMBERED_TENANTS:
            self._sizes.clear()
        self._sizes[key] = (large, math.inf if large else now + _SMALL_SECONDS)
        return large
