"""Searching: the tenant's nearest, by every kind of index, with conditions."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pgvector import Vector
from psycopg_pool import AsyncConnectionPool

from domain.models.settings import LEXICAL
from domain.projections.intents import IntentReads
from domain.similarity import search as module
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.indexing import VectorIndexes
from domain.similarity.lexical_embedder import LexicalEmbedder
from domain.similarity.models import INDEX_KINDS, QUERY_OF, IndexKind, list_models
from domain.similarity.recall import Recall, SearchHealth, examine_search
from domain.similarity.search import Conditions, SimilaritySearch
from domain.similarity.store import EmbeddingStore, Located
from tests.support.intents.similar import RECORDED_QUERY, add_intent, fill, somewhere
from tests.support.postgres import Database


@pytest.fixture
def embeddings(pool: AsyncConnectionPool) -> EmbeddingStore:
    return EmbeddingStore(pool, EmbedderRegistry(None))


@pytest.fixture
def search(pool: AsyncConnectionPool, embeddings: EmbeddingStore) -> SimilaritySearch:
    return SimilaritySearch(pool, embeddings)


async def use(owner: AsyncConnectionPool, kind: IndexKind) -> None:
    """Search by an index of ``kind`` from now on."""
    [active, *_] = await list_models(owner)
    await VectorIndexes(owner).change(active, kind, False, lambda _: None)


async def explain(pool: AsyncConnectionPool, query: bytes, params: Any, sort: str = "on") -> str:
    """The plan without the vectors in it; ``sort`` is off where an index would not pay."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("select set_config('enable_sort', %s, true)", [sort])
        rows = await (await connection.execute(b"explain " + query, params)).fetchall()
    return re.sub(r"'\[[^]]*\]'", "'[…]'", "\n".join(line for (line,) in rows))


async def test_the_nearest_intents_of_the_tenant_come_first(
    search: SimilaritySearch, embeddings: EmbeddingStore, pool: AsyncConnectionPool
) -> None:
    same = await add_intent(pool, embeddings, "Plot the monthly totals of this CSV file")
    close = await add_intent(pool, embeddings, "plot monthly totals from a CSV")
    far = await add_intent(pool, embeddings, "resize an image to a square")
    await add_intent(pool, embeddings, "plot the monthly totals of this CSV file", "other")

    found = await search.by_text("acme", "plot the monthly totals of this csv file")
    assert found.model == LEXICAL
    assert [item.intent.id for item in found.items] == [same, close, far]
    assert found.items[0].similarity == pytest.approx(1.0, abs=1e-6)
    assert found.items[0].intent.status == "succeeded"
    assert found.items[1].similarity > 0.5 > found.items[2].similarity

    row = await IntentReads(pool).get("acme", same)
    assert row is not None
    others = await search.by_intent(row, 1)
    assert [item.intent.id for item in others.items] == [close]
    near = await search.by_text("acme", "plot monthly totals", conditions=Conditions(threshold=0.5))
    assert far not in [item.intent.id for item in near.items]


async def test_conditions_leave_out_what_does_not_fit(
    search: SimilaritySearch, embeddings: EmbeddingStore, pool: AsyncConnectionPool
) -> None:
    old = await add_intent(pool, embeddings, "sort a list", days_ago=10, language="python")
    failed = await add_intent(pool, embeddings, "sort a list", status="failed", language="ruby")
    new = await add_intent(pool, embeddings, "sort the list", language="python")

    async def ids(**conditions: Any) -> set[Any]:
        found = await search.by_text("acme", "sort a list", 50, Conditions(**conditions))
        return {item.intent.id for item in found.items}

    week = datetime.now(UTC) - timedelta(days=7)
    assert await ids() == {old, failed, new}
    assert await ids(statuses=["succeeded"]) == {old, new}
    assert await ids(statuses=["failed", "running"]) == {failed}
    assert await ids(language="python") == {old, new}
    assert await ids(created_after=week) == {failed, new}
    assert await ids(created_before=week) == {old}
    assert await ids(language="python", created_after=week, statuses=["succeeded"]) == {new}
    assert await ids(without=new) == {old, failed}
    assert await ids(statuses=[]) == set()


@pytest.mark.parametrize("kind", INDEX_KINDS)
async def test_every_kind_of_index_is_used_by_its_query_and_finds_the_nearest(
    kind: IndexKind,
    pool: AsyncConnectionPool,
    owner: AsyncConnectionPool,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", 100)
    await fill(database, acme=1_200, other=600)
    await use(owner, kind)
    [active, *_] = await list_models(pool)
    assert active.index_kind == kind
    used: list[str] = []

    async def fetch(fetch_pool: Any, statement: bytes, params: Any) -> Any:
        used.append(await explain(fetch_pool, statement, params, "off"))
        async with fetch_pool.connection() as connection:
            return await (await connection.execute(statement, params, binary=True)).fetchall()

    monkeypatch.setattr(module, "fetch", fetch)
    generator = random.Random(1)
    hits = 0
    for _ in range(10):
        located = Located(LEXICAL, kind, Vector(somewhere(generator)))
        exact = Located(LEXICAL, "exact", located.vector)
        search = SimilaritySearch(pool, EmbeddingStore(pool, EmbedderRegistry(None)))
        wanted = await search._near("acme", exact, 5, Conditions())
        found = await search._near("acme", located, 5, Conditions())
        assert len(found.items) == 5
        assert {item.intent.tenant_id for item in found.items} == {"acme"}
        expected = {item.intent.id for item in wanted.items}
        hits += len(expected & {item.intent.id for item in found.items})
    # Random directions are the hardest case there is: no neighbourhoods for a graph to follow.
    assert hits >= (50 if kind == "exact" else 25), hits
    if kind != "exact":
        assert f"Index Scan using intent_embeddings_1_{kind}" in used[-1], used[-1]

        filtered = Conditions(statuses=["succeeded", "failed"])
        found = await search._near("acme", located, 5, filtered)
        assert len(found.items) == 5
        assert f"Index Scan using intent_embeddings_1_{kind}" in used[-1], used[-1]


@pytest.mark.parametrize("kind", ["hnsw", "ivfflat"])
async def test_the_recorded_query_runs_as_written_and_uses_an_index_of_whole_vectors(
    kind: IndexKind,
    embeddings: EmbeddingStore,
    pool: AsyncConnectionPool,
    owner: AsyncConnectionPool,
    database: Database,
) -> None:
    await fill(database, acme=3_000)
    await use(owner, kind)
    intent_id = await add_intent(pool, embeddings, "sort a list")
    async with pool.connection() as connection:
        await connection.execute(
            """insert into intent_states (id, tenant_id, version, status, user_input, created_at,
            updated_at) values (gen_random_uuid(), 'acme', 1, 'submitted', '', now(), now())"""
        )
        wanted = Vector((await LexicalEmbedder().embed(["sort a list"]))[0])
        found = await (await connection.execute(RECORDED_QUERY, [wanted, wanted])).fetchall()
    assert len(found) == 5
    assert found[0][0] == intent_id
    assert found[0][2] == pytest.approx(1.0, abs=1e-6)
    sort = "on" if kind == "hnsw" else "off"
    text = await explain(pool, RECORDED_QUERY.encode(), [wanted, wanted], sort)
    assert f"Index Scan using intent_embeddings_1_{kind}" in text, text
    assert "Sort" not in text, text


async def test_the_recorded_query_is_exact_where_the_index_is_of_bits(
    embeddings: EmbeddingStore, pool: AsyncConnectionPool, database: Database
) -> None:
    await fill(database, acme=500)
    intent_id = await add_intent(pool, embeddings, "sort a list")
    wanted = Vector((await LexicalEmbedder().embed(["sort a list"]))[0])
    async with pool.connection() as connection:
        found = await (await connection.execute(RECORDED_QUERY, [wanted, wanted])).fetchall()
    assert found[0][0] == intent_id
    text = await explain(pool, RECORDED_QUERY.encode(), [wanted, wanted])
    assert "Sort" in text, text


async def test_a_condition_that_few_meet_is_answered_exactly_among_many(
    search: SimilaritySearch,
    embeddings: EmbeddingStore,
    pool: AsyncConnectionPool,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", 50)
    await fill(database, acme=1_000)
    ids = [await add_intent(pool, embeddings, f"sort list {n}", language="ruby") for n in range(5)]
    found = await search.by_text("acme", "resize an image", 5, Conditions(language="ruby"))
    assert {item.intent.id for item in found.items} == set(ids)


@pytest.mark.parametrize("limit", [0, 51])
async def test_the_number_of_results_is_bounded(search: SimilaritySearch, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        await search.by_text("acme", "sort a list", limit)


async def test_a_check_measures_recall_and_names_what_is_wrong(
    pool: AsyncConnectionPool,
    owner: AsyncConnectionPool,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", 100)
    await fill(database, acme=600)
    [active, *_] = await list_models(pool)
    health = await examine_search(pool, active, 20)
    assert (health.valid, health.vectors, list(health.strays)) == (True, 600, [])
    assert health.measured.recall is not None
    assert health.measured.recall > 0.6
    assert health.measured.sample > 5
    assert health.index_size > 0

    async with owner.connection() as connection:
        await connection.execute("drop index intent_embeddings_1_binary")
        await connection.execute(
            "create index astray on intent_embeddings_1 using ivfflat "
            "(embedding vector_cosine_ops) with (lists = 1)"
        )
    broken = await examine_search(pool, active, 20)
    assert broken.valid is False
    assert broken.problem is not None
    assert "not valid" in broken.problem
    assert broken.fix == "qlp similarity index --kind binary"
    await use(owner, "binary")
    again = await examine_search(pool, active, 20)
    assert (again.valid, list(again.strays), again.index_kind) == (True, [], "binary")
    assert QUERY_OF[again.index_kind] == "binary"


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        ("binary", "--kind halfvec"),
        ("halfvec", "--kind halfvec --rebuild; if that does not help: … --kind hnsw"),
        ("hnsw", "--kind hnsw --rebuild; if that does not help: … --kind exact"),
    ],
)
def test_the_fix_for_low_recall_depends_on_the_kind_of_index(kind: IndexKind, fix: str) -> None:
    low = Recall(sample=20, recall=0.5, index_ms=1.0, exact_ms=2.0)
    health = SearchHealth("m", kind, 5_000, 1, 1, 1.0, valid=True, strays=[], measured=low)
    assert health.fix == f"qlp similarity index {fix}".replace("…", "qlp similarity index")


async def test_tenants_that_are_compared_exactly_miss_nothing(
    pool: AsyncConnectionPool, embeddings: EmbeddingStore
) -> None:
    """Sentences of one form are hard for an index of bits, and no index answers for so few."""
    for number in range(60):
        for tenant in ("acme", "other"):
            await add_intent(pool, embeddings, f"add {number} and {number + 1}", tenant)
    [active, *_] = await list_models(pool)
    health = await examine_search(pool, active, 20)
    assert (health.problem, health.measured.recall, health.measured.sample) == (None, None, 0)


async def test_other_intents_at_the_same_distance_do_not_count_as_missed(
    pool: AsyncConnectionPool, embeddings: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", 50)
    for _ in range(60):
        await add_intent(pool, embeddings, "sort a list")
    [active, *_] = await list_models(pool)
    measured = (await examine_search(pool, active, 10)).measured
    assert (measured.recall, measured.sample) == (1.0, 10)


async def test_a_stored_zero_vector_is_near_nothing_and_left_out_of_the_sample(
    pool: AsyncConnectionPool,
    owner: AsyncConnectionPool,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", 50)
    await use(owner, "hnsw")
    await fill(database, acme=60)
    async with owner.connection() as connection:
        await connection.execute(
            "update intent_embeddings set embedding = array_fill(0, array[1536])::vector "
            "where intent_id in (select intent_id from intent_embeddings limit 40)"
        )
    [active, *_] = await list_models(pool)
    measured = (await examine_search(pool, active, 60)).measured
    assert (measured.recall, measured.sample) == (1.0, 20)


async def test_the_sample_is_of_intents_whose_ids_lie_in_the_order_of_time(
    pool: AsyncConnectionPool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", 100)
    await fill(database, acme=300, other=50)
    [active, *_] = await list_models(pool)
    assert (await examine_search(pool, active, 20)).measured.sample == 20


async def test_an_empty_model_is_healthy(pool: AsyncConnectionPool) -> None:
    [active, *_] = await list_models(pool)
    health = await examine_search(pool, active, 20)
    assert (health.problem, health.measured.recall, health.measured.sample) == (None, None, 0)
