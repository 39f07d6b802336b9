"""The search for similar intents over real sentences, by every kind of index.

The application's own search (`SimilaritySearch.by_text`: two statements, the sentence's vector
found in the store) against comparing every vector, and against ADR-002's IVFFlat with the record's
query as it is written, on the same rows and server. Recall@5 is held against the exact answer by
matrix multiplication, for sentences that are not stored. CPU is that of PostgreSQL's process,
which is steady where the machine is not.

    python -m tests.benchmarks.bench_similarity [--rows 10000 100000] [--kinds binary hnsw …]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import psutil
import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector_async
from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import migrate
from domain.database.pool import open_pool
from domain.intents.text import text_hash
from domain.memory import tune_gc
from domain.models.settings import LEXICAL
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.indexing import VectorIndexes
from domain.similarity.models import INDEX_KINDS, IndexKind, list_models
from domain.similarity.search import SimilaritySearch
from domain.similarity.store import EmbeddingStore, put_fact, put_of_intent
from infra.local.postgres.server import EmbeddedPostgres
from tests.benchmarks.sentences import STORED, sentences, vectors
from tests.benchmarks.server import own_server
from tests.benchmarks.statistics_of import percentile

ADR_QUERY = b"""
    SELECT id, user_input, 1 - (embedding <=> %(q)s) AS similarity
    FROM intents
    WHERE embedding IS NOT NULL
    ORDER BY embedding <=> %(q)s
    LIMIT 5
"""
ADR_INDEX = (
    "create index adr on intent_embeddings_1 using ivfflat (embedding vector_cosine_ops) "
    "with (lists = 100)"
)

#: One row in a hundred is the small tenant's.
LARGE, SMALL = "large", "small"

Search = Callable[[int], Awaitable[list[UUID]]]


@dataclass(frozen=True)
class Data:
    """Stored rows and held-out queries; row n has the id n, query n the text of ``texts[n]``."""

    stored: Any
    texts: list[str]
    asked: Any
    truth: dict[str, list[set[UUID]]]


def tenant_of(row: int) -> str:
    return SMALL if row % 100 == 0 else LARGE


def data_of(rows: int, queries: int) -> Data:
    """The first ``rows`` sentences, and the true nearest five of each query in each tenant."""
    every, texts = vectors(), sentences()
    stored, asked = every[:rows], every[STORED : STORED + queries]
    truth: dict[str, list[set[UUID]]] = {}
    for tenant in (LARGE, SMALL, "all"):
        own = np.array([n for n in range(rows) if tenant in ("all", tenant_of(n))])
        near = np.argpartition(-(asked @ stored[own].T), 5, axis=1)[:, :5]
        truth[tenant] = [{UUID(int=int(n) + 1) for n in own[line]} for line in near]
    return Data(stored, texts[STORED : STORED + queries], asked, truth)


async def load(url: str, data: Data) -> None:
    """Store the rows, and the queries' vectors as facts that were paid for."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await register_vector_async(connection)
        for name in ("adr", "intent_embeddings_1_binary"):
            await connection.execute(f"drop index if exists {name}")
        cursor = connection.cursor()
        async with cursor.copy(
            "copy intent_states (id, tenant_id, version, status, user_input, created_at, "
            "updated_at) from stdin"
        ) as copy:
            for row in range(len(data.stored)):
                at = "2026-03-01"
                await copy.write_row(
                    (UUID(int=row + 1), tenant_of(row), 1, "succeeded", f"sentence {row}", at, at)
                )
        async with cursor.copy(
            "copy intent_embeddings (intent_id, tenant_id, model, embedding) "
            "from stdin (format binary)"
        ) as copy:
            copy.set_types(["uuid", "text", "text", "vector"])
            for row, vector in enumerate(data.stored):
                await copy.write_row((UUID(int=row + 1), tenant_of(row), LEXICAL, Vector(vector)))
        for text, vector in zip(data.texts, data.asked, strict=True):
            write = put_fact(LEXICAL, text_hash(text), Vector(vector))
            await connection.execute(write.statement, write.params)
        await connection.commit()
        await connection.set_autocommit(True)
        await connection.execute("vacuum analyze")


def backend_cpu(pids: Sequence[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


@contextlib.asynccontextmanager
async def clients(url: str, count: int) -> AsyncIterator[tuple[AsyncConnectionPool, list[int]]]:
    """A pool of ``count`` connections, and the processes that serve them."""
    pool = await open_pool(url, min_size=count, max_size=count, application_name="bench")
    held = [await pool.getconn() for _ in range(count)]
    pids = [connection.info.backend_pid for connection in held]
    for connection in held:
        await pool.putconn(connection)
    yield pool, pids
    await pool.close()


async def measure(
    name: str, search: Search, truth: list[set[UUID]], count: int, pids: Sequence[int]
) -> None:
    """Ask everything once, ``count`` at a time, and print percentiles, CPU and recall."""
    numbers = list(range(len(truth)))
    for number in numbers[:20]:
        await search(number)
    times: list[float] = []
    hits = 0

    async def client(own: Sequence[int]) -> None:
        nonlocal hits
        for number in own:
            started = time.perf_counter()
            found = await search(number)
            times.append((time.perf_counter() - started) * 1e3)
            hits += len(truth[number] & set(found))

    used = backend_cpu(pids)
    await asyncio.gather(*(client(numbers[n::count]) for n in range(count)))
    cpu = (backend_cpu(pids) - used) / len(numbers) * 1e3
    print(
        f"  {name:28} {count} clients  p50 {statistics.median(times):7.2f} ms  "
        f"p99 {percentile(times, 99):7.2f} ms  CPU {cpu:7.2f} ms  "
        f"recall@5 {hits / 5 / len(numbers):.3f}",
        flush=True,
    )


def application(pool: AsyncConnectionPool, data: Data, tenant: str) -> Search:
    """The application's search of a tenant."""
    search = SimilaritySearch(pool, EmbeddingStore(pool, EmbedderRegistry(None)))

    async def ask(number: int) -> list[UUID]:
        found = await search.by_text(tenant, data.texts[number])
        return [item.intent.id for item in found.items]

    return ask


async def insert_cost(pool: AsyncConnectionPool, pid: int, data: Data, count: int = 200) -> float:
    """Milliseconds of PostgreSQL's CPU for one more vector; nothing is kept."""
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        used = backend_cpu([pid])
        for number in range(count):
            vector = Vector(data.asked[number % len(data.asked)])
            write = put_of_intent(UUID(int=10**9 + number), LARGE, LEXICAL, vector)
            await connection.execute(write.statement, write.params)
        return (backend_cpu([pid]) - used) / count * 1e3


async def by_kind(url: str, admin: str, data: Data, kind: IndexKind, queries: int) -> None:
    """Build the index of a kind, then search by it."""
    owner = await open_pool(admin, min_size=1, max_size=3, role="none", application_name="bench")
    [active, *_] = await list_models(owner)
    started = time.perf_counter()
    await VectorIndexes(owner).change(active, kind, False, lambda _: None)
    took = time.perf_counter() - started
    [active, *_] = await list_models(owner)
    await owner.close()
    print(f" {kind}: built in {took:.1f} s, {active.index_size / 1e6:.1f} MB", flush=True)
    few = queries if kind != "exact" else min(queries, 60)
    for count in (1, 8):
        async with clients(url, count) as (pool, pids):
            ask = application(pool, data, LARGE)
            await measure(f"{kind}, all", ask, data.truth[LARGE][:few], count, pids)
            if kind == "binary":
                ask = application(pool, data, SMALL)
                await measure("tenant of 1 %", ask, data.truth[SMALL][:queries], count, pids)
            if count == 1:
                cost = await insert_cost(pool, pids[0], data)
                print(f"  {kind + ', insert':28} CPU {cost:.2f} ms", flush=True)


async def by_the_record(url: str, admin: str, data: Data, queries: int) -> None:
    """ADR-002's index and query as they are written there."""
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        started = time.perf_counter()
        await connection.execute(ADR_INDEX)
        took = time.perf_counter() - started
        cursor = await connection.execute("select pg_relation_size('adr')")
        [[size]] = await cursor.fetchall()
    print(f" ADR-002's IVFFlat: built in {took:.1f} s, {size / 1e6:.1f} MB", flush=True)
    for probes in (1, 10):
        options = f"{url}{'&' if '?' in url else '?'}options=-c%20ivfflat.probes%3D{probes}"
        pool: AsyncConnectionPool = AsyncConnectionPool(
            options, min_size=1, max_size=1, open=False,
            configure=register_vector_async, kwargs={"autocommit": True, "prepare_threshold": 0},
        )  # fmt: skip
        await pool.open(wait=True)
        async with pool.connection() as held:
            pids = [held.info.backend_pid]
            await held.execute("set role qlp_app")

        async def ask(number: int, pool: AsyncConnectionPool = pool) -> list[UUID]:
            async with pool.connection() as connection:
                params = {"q": Vector(data.asked[number])}
                cursor = await connection.execute(ADR_QUERY, params, binary=True)
                return [row[0] for row in await cursor.fetchall()]

        await measure(f"ADR-002, probes {probes}", ask, data.truth["all"][:queries], 1, pids)
        await pool.close()
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        await connection.execute("drop index adr")


async def compare(
    server: EmbeddedPostgres, rows: int, queries: int, kinds: Sequence[IndexKind]
) -> None:
    """Measure everything with so many rows, in a database of their own."""
    name = f"bench{rows}"
    server.create_database(name)
    await migrate(server.admin_url_for(name))
    data = data_of(rows, queries)
    url, admin = server.app_url(name), server.admin_url_for(name)
    await load(admin, data)
    print(f"{rows:,} sentences, {queries} queries", flush=True)
    for kind in kinds:
        await by_kind(url, admin, data, kind, queries)
    await by_the_record(url, admin, data, queries)


def main() -> None:
    """Run on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--kinds", nargs="+", choices=INDEX_KINDS, default=INDEX_KINDS)
    options = parser.parse_args()
    tune_gc()
    with own_server() as server:
        for rows in options.rows:
            asyncio.run(compare(server, rows, options.queries, options.kinds))


if __name__ == "__main__":
    main()
