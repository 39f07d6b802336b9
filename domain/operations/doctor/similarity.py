"""Examines the search for similar intents: its model, its index and its recall."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg_pool import AsyncConnectionPool

from domain.operations.doctor.findings import Finding, on_database
from domain.similarity.models import count_owed, list_models
from domain.similarity.recall import examine_search
from domain.similarity.status import migrate_command

#: Vectors searched for: enough to see gross errors; `qlp similarity check` takes more.
_SAMPLE = 10

#: With more vectors than this, an exact search takes too long here.
_MOST_VECTORS = 200_000


async def examine_similarity(pool: AsyncConnectionPool, wanted: str | None) -> Sequence[Finding]:
    """All findings; ``wanted`` is the model that the settings name, None if it is unknown."""
    return [
        *await on_database("embeddings", lambda: _embeddings(pool, wanted)),
        *await on_database("similarity", lambda: _search(pool)),
    ]


async def _embeddings(pool: AsyncConnectionPool, wanted: str | None) -> Sequence[Finding]:
    models = {model.state: model for model in await list_models(pool)}
    active, filling = models["active"], models.get("filling")
    findings = []
    if filling is not None:
        detail = f"a migration to {filling.model} is in progress; {active.model} is searched"
        fix = f"if it is not running, continue it: {migrate_command(filling.model)}"
        findings.append(Finding("embeddings", "warn", detail, fix))
    elif wanted not in (None, active.model):
        detail = f"vectors are from {active.model}, but the settings name {wanted}"
        findings.append(Finding("embeddings", "warn", detail, migrate_command(wanted or "")))
    if owed := await count_owed(pool):
        detail = f"intents that wait for a vector: {owed}"
        fix = "see the embedder in /api/health; the function fill_embeddings retries"
        findings.append(Finding("embeddings", "warn", detail, fix))
    return findings or [
        Finding("embeddings", "ok", f"{active.vectors:,} vectors of {active.model}")
    ]


async def _search(pool: AsyncConnectionPool) -> Sequence[Finding]:
    [active, *_] = await list_models(pool)
    sample = _SAMPLE if active.vectors <= _MOST_VECTORS else 0
    health = await examine_search(pool, active, sample)
    if health.problem is not None:
        return [Finding("similarity", "warn", health.problem, health.fix)]
    detail = f"the {health.index_kind} index is valid"
    if health.measured.recall is not None:
        detail += f", recall {health.measured.recall:.2f} on {health.measured.sample} vectors"
    return [Finding("similarity", "ok", detail)]
