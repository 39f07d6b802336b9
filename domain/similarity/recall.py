"""How much of what comparing every vector finds is found by a model's index: its recall."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch, fetch_over, without_answer_limit
from domain.database.statements import load_statements
from domain.similarity import search
from domain.similarity.models import QUERY_OF, EmbeddingModel, IndexKind, list_models

logger = logging.getLogger(__name__)

_SQL = load_statements(Path(__file__).with_name("recall.sql"))

#: Searches of the nightly check: eight seconds of work for 100,000 vectors.
_NIGHTLY_SAMPLE = 20

#: Below this recall, users miss similar intents that exist.
ALARM_BELOW = 0.97

#: Recall is that of the nearest five, as searches ask by default.
NEAREST = 5

#: The pages chosen hold this many times the rows that the sample needs: TABLESAMPLE chooses pages,
#: not rows.
_SPREAD = 4

#: Distances are float32 sums: two ways to compute the same one differ by less.
_TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Recall:
    """What was measured.

    Attributes:
        sample: stored vectors whose neighbours were looked for; they themselves do not count.
        recall: the share of the true nearest five that the index found; None without a sample, as
            when no tenant has enough vectors to be searched by the index.
        index_ms, exact_ms: median time of a search by the index, and of comparing all.
    """

    sample: int
    recall: float | None
    index_ms: float
    exact_ms: float

    @property
    def alarming(self) -> bool:
        """Whether recall is too low."""
        return self.recall is not None and self.recall < ALARM_BELOW


async def measure_recall(
    pool: AsyncConnectionPool, model: str, kind: IndexKind, sample: int
) -> Recall:
    """Compare searches by the index and exact ones from random stored vectors; reads only.

    The searches are those of `domain.similarity.search`, in the tenants that it searches by the
    index; all others are compared exactly. An exact comparison takes about 0.4 s per 100,000
    vectors of the tenant.
    """
    shares: list[float] = []
    times: tuple[list[float], list[float]] = ([], [])
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(_SQL["without_limit"])
        with without_answer_limit(connection):
            for params in await _sample(connection, model, kind, sample):
                exact = await _distances(connection, "exact", params, times[1])
                found = await _distances(connection, QUERY_OF[kind], params, times[0])
                if exact:
                    hits = sum(distance <= exact[-1] + _TIE for distance in found)
                    shares.append(min(hits, len(exact)) / len(exact))
    return Recall(
        len(shares),
        statistics.fmean(shares) if shares else None,
        *(statistics.median(each) * 1e3 if each else 0.0 for each in times),
    )


async def _sample(
    connection: AsyncConnection[Any], model: str, kind: IndexKind, sample: int
) -> list[dict[str, Any]]:
    """Parameters of searches for the neighbours of random vectors."""
    if kind == "exact" or not sample:
        return []
    of_model = {"model": model, "exact_up_to": search.EXACT_UP_TO}
    counts = dict(await fetch_over(connection, _SQL["searched_by_index"], of_model))
    if not counts:
        return []
    # On so many pages, these tenants have a few times as many rows as are asked for.
    percent = min(100.0, 100.0 * _SPREAD * sample / sum(counts.values()))
    params = {"model": model, "percent": percent, "tenants": [*counts], "sample": sample}
    return [
        {
            **{"model": model, "tenant_id": tenant_id, "embedding": embedding},
            **{"without": intent_id, "limit": NEAREST, "threshold": -1.0},
            "candidates": search.CANDIDATES,
        }
        for intent_id, tenant_id, embedding in await fetch_over(connection, _SQL["sample"], params)
    ]


async def _distances(
    connection: AsyncConnection[Any], plan: str, params: dict[str, Any], times: list[float]
) -> list[float]:
    """Distances of the vectors nearest to an intent's, without its own.

    A zero vector has no distances: nothing is near it, and nothing can be missed.
    """
    started = time.perf_counter()
    rows = await fetch_over(connection, search.QUERIES[plan, False], params)
    times.append(time.perf_counter() - started)
    return [1 - similarity for similarity, *_ in rows if not math.isnan(similarity)]


@dataclass(frozen=True, slots=True)
class SearchHealth:
    """A model's index, and whether it serves its purpose.

    Attributes:
        valid: whether the index is there and was built to its end.
        strays: indexes that no search uses, and that slow every insert down.
    """

    model: str
    index_kind: IndexKind
    vectors: int
    size: int
    index_size: int
    index_seconds: float
    valid: bool
    strays: Sequence[str]
    measured: Recall

    @property
    def problem(self) -> str | None:
        """What is wrong; None where all is well."""
        if not self.valid:
            return f"the {self.index_kind} index is missing or not valid: searches read all rows"
        if self.measured.alarming:
            return (
                f"recall is {self.measured.recall:.3f}, below {ALARM_BELOW}: similar intents "
                "are missed"
            )
        if self.strays:
            return f"{', '.join(self.strays)} are used by no search, and slow every insert down"
        return None

    @property
    def fix(self) -> str:
        """The command that helps; empty where all is well."""
        if self.problem is None:
            return ""
        again = f"qlp similarity index --kind {self.index_kind}"
        if not self.valid or not self.measured.alarming:
            return again
        if self.index_kind == "binary":
            return "qlp similarity index --kind halfvec"
        other = "exact" if self.index_kind == "hnsw" else "hnsw"
        return f"{again} --rebuild; if that does not help: qlp similarity index --kind {other}"


async def vector_indexes(
    pool: AsyncConnectionPool, model: EmbeddingModel
) -> list[tuple[str, bool]]:
    """The vector indexes of a model's partition, and whether each was built to its end."""
    rows = await fetch(pool, _SQL["indexes"], {"number": model.number})
    return [(name, usable) for name, usable in rows]


async def examine_search(
    pool: AsyncConnectionPool, model: EmbeddingModel, sample: int
) -> SearchHealth:
    """The health of a model's search; see `measure_recall` for what it costs."""
    found = await vector_indexes(pool, model)
    own = model.index_name(model.index_kind)
    valid = model.index_kind == "exact" or any(name == own and usable for name, usable in found)
    return SearchHealth(
        model=model.model,
        index_kind=model.index_kind,
        vectors=model.vectors,
        size=model.size,
        index_size=model.index_size,
        index_seconds=model.index_seconds,
        valid=valid,
        strays=[name for name, _ in found if name != own],
        measured=await measure_recall(pool, model.model, model.index_kind, sample if valid else 0),
    )


async def check_active(pool: AsyncConnectionPool) -> SearchHealth:
    """Examine the active model's search on a few vectors and log what is wrong, with the fix."""
    [active, *_] = await list_models(pool)
    health = await examine_search(pool, active, _NIGHTLY_SAMPLE)
    if health.problem is not None:
        logger.error("similarity: %s; fix: %s", health.problem, health.fix)
    return health
