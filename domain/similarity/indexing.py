"""Builds the vector index of a model beside the old one, then swaps the two."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.similarity.models import EmbeddingModel, IndexingFailed, IndexKind
from domain.similarity.recall import examine_search, vector_indexes

_SQL = load_statements(Path(__file__).with_name("owner.sql"))

#: Time to build an index and its size, for 100,000 vectors; measured in docs/benchmarks.md.
_SECONDS: dict[IndexKind, float] = {
    "binary": 40, "hnsw": 140, "halfvec": 150, "ivfflat": 15, "exact": 0,
}  # fmt: skip
_MEGABYTES: dict[IndexKind, float] = {
    "binary": 50, "hnsw": 820, "halfvec": 410, "ivfflat": 820, "exact": 0,
}  # fmt: skip

#: Memory for building, MB. A graph that does not fit into it is built slowly, from disk.
_MEMORY_LEAST, _MEMORY_MOST = 64, 2_048

_POLL_SECONDS = 0.5

#: Called with the share of the building that is done, 0 to 1.
OnBuilding = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What building an index would take.

    Attributes:
        current, wanted: kinds of index.
        vectors: how many are to be indexed.
        seconds, megabytes: estimated time to build the index, and its estimated size.
        strays: other indexes that would be dropped.
        nothing: whether there is nothing to do.
    """

    model: str
    current: IndexKind
    wanted: IndexKind
    vectors: int
    seconds: float
    megabytes: float
    strays: list[str]
    nothing: bool


def estimate(kind: IndexKind, vectors: int) -> tuple[float, float]:
    """Seconds to build an index of a kind, and its megabytes."""
    return _SECONDS[kind] * vectors / 1e5, _MEGABYTES[kind] * vectors / 1e5


@asynccontextmanager
async def exclusive_connection(pool: AsyncConnectionPool) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection of the owner, under the lock for changes of models and indexes.

    Raises:
        IndexingFailed: another change is running, or this login is not the owner.
    """
    async with pool.connection() as connection:
        [[owns]] = await (await connection.execute(_SQL["owns"])).fetchall()
        if not owns:
            raise IndexingFailed(
                "this login does not own the tables: set DATABASE_ADMIN_URL to the owner's, with "
                "which migrations are applied"
            )
        [[locked]] = await (await connection.execute(_SQL["try_lock"])).fetchall()
        if not locked:
            raise IndexingFailed("another change of models or indexes is running")
        try:
            yield connection
        finally:
            if not connection.closed:
                await connection.execute(_SQL["unlock"])


class VectorIndexes:
    """Changes the vector index of a model; needs the login that owns the tables."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def plan(self, model: EmbeddingModel, kind: IndexKind, rebuild: bool) -> IndexPlan:
        """What `change` would do; changes nothing."""
        health = await examine_search(self._pool, model, 0)
        done = model.index_kind == kind and health.valid and not rebuild
        seconds, megabytes = estimate(kind, model.vectors)
        return IndexPlan(
            *(model.model, model.index_kind, kind, model.vectors),
            *(0.0 if done else seconds, megabytes, list(health.strays)),
            nothing=done and not health.strays,
        )

    async def change(
        self, model: EmbeddingModel, kind: IndexKind, rebuild: bool, on_building: OnBuilding
    ) -> float:
        """Search the model's vectors by an index of ``kind`` from now on; seconds of building it.

        Readers and writers go on: the new index is built beside the old one, which serves until the
        new one is complete. After a kill, run it again: the building starts over.

        Raises:
            IndexingFailed: another change is running, or this login is not the owner.
        """
        async with exclusive_connection(self._pool) as connection:
            seconds = await self.build(connection, model, kind, rebuild, on_building)
            await self.drop_strays(connection, model, kind)
        return seconds

    async def build(
        self,
        connection: AsyncConnection[Any],
        model: EmbeddingModel,
        kind: IndexKind,
        rebuild: bool,
        on_building: OnBuilding,
    ) -> float:
        """Build the index and have searches use it; the old one stays."""
        name = model.index_name(kind)
        found = dict(await vector_indexes(self._pool, model))
        seconds = model.index_seconds if model.index_kind == kind else 0.0
        if found.get(name) is False:  # left by a build that was killed
            await self._run(connection, model, "drop_ddl", {"index": name}, on_building)
        if kind != "exact" and not found.get(name):
            lists = max(1, round(model.vectors / 1000))
            params: dict[str, Any] = {"number": model.number, "kind": kind, "lists": lists}
            seconds = await self._run(connection, model, "index_ddl", params, on_building, kind)
        elif rebuild and kind != "exact":
            seconds = await self._run(
                connection, model, "reindex_ddl", {"index": name}, on_building, kind
            )
        await connection.execute(
            _SQL["indexed_by"], {"model": model.model, "kind": kind, "seconds": seconds}
        )
        return seconds

    async def drop_strays(
        self, connection: AsyncConnection[Any], model: EmbeddingModel, kind: IndexKind
    ) -> None:
        """Drop every vector index of the model but the one of ``kind``."""
        for name, _ in await vector_indexes(self._pool, model):
            if name != model.index_name(kind):
                await self._run(connection, model, "drop_ddl", {"index": name}, lambda _: None)

    async def _run(
        self,
        connection: AsyncConnection[Any],
        model: EmbeddingModel,
        ddl: str,
        params: dict[str, Any],
        on_building: OnBuilding,
        kind: IndexKind = "exact",
    ) -> float:
        """Run the DDL that the statement ``ddl`` composes; returns how long it took, seconds."""
        needed = estimate(kind, model.vectors)[1] * 1.3
        memory = f"{round(min(max(needed, _MEMORY_LEAST), _MEMORY_MOST))}MB"
        [[statement]] = await (await connection.execute(_SQL[ddl], params)).fetchall()
        await connection.execute(_SQL["without_limit"], {"memory": memory})
        started = time.perf_counter()
        watching = asyncio.create_task(self._watch(model, on_building))
        try:
            await connection.execute(statement)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            if not connection.closed:
                for name in ("with_limits", "with_lock_limit", "with_memory_limit"):
                    await connection.execute(_SQL[name])
        return time.perf_counter() - started

    async def _watch(self, model: EmbeddingModel, on_building: OnBuilding) -> None:
        while True:
            [[share]] = await fetch(self._pool, _SQL["progress"], {"number": model.number})
            on_building(share)
            await asyncio.sleep(_POLL_SECONDS)
