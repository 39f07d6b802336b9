"""``qlp embeddings`` and ``qlp similarity`` as an operator and a script run them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from aiohttp import web
from openai import AsyncOpenAI
from psycopg_pool import AsyncConnectionPool
from typer.testing import CliRunner

from domain.models.settings import LEXICAL
from domain.operations.cli import cli
from domain.similarity import migration as module
from domain.similarity import search
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.migration import Migration
from domain.similarity.models import list_models
from domain.similarity.search import SimilaritySearch
from domain.similarity.store import EmbeddingStore
from tests.support.intents.similar import add_intent, fill
from tests.support.openai.embeddings import EmbeddingsServer
from tests.support.postgres import Database
from tests.support.qlp import Said, run_qlp

TARGET = "text-embedding-3-small@64"
TO = ("--to", "text-embedding-3-small", "--dimensions", "64")


class Console:
    """Runs commands against a database and a provider."""

    def __init__(self, database: Database, server: EmbeddingsServer) -> None:
        self.database = database
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("DATABASE", "OPENAI", "QLP"))
        } | {
            "DATABASE_URL": database.url,
            "DATABASE_ADMIN_URL": database.admin_url,
            "OPENAI_BASE_URL": server.url,
            "QLP_EMBEDDING_PRICE": "0.02",
            "COLUMNS": "250",
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "domain.operations", *arguments),
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> Said:
        return await run_qlp(*arguments, environment=self.environment)


@pytest.fixture
def console(database: Database, embeddings_server: EmbeddingsServer) -> Console:
    return Console(database, embeddings_server)


@pytest.fixture
def lexical(pool: AsyncConnectionPool) -> EmbeddingStore:
    return EmbeddingStore(pool, EmbedderRegistry(None))


def migration(
    pool: AsyncConnectionPool, server: EmbeddingsServer, target: str = TARGET, **options: Any
) -> Migration:
    client = AsyncOpenAI(api_key="k", base_url=server.url, max_retries=0)
    embedders = EmbedderRegistry(client, budget_seconds=60, pause_seconds=0)
    defaults: dict[str, Any] = {
        "price": 0.0, "index_kind": None, "drop_old": False, "on_progress": lambda *_: None,
    }  # fmt: skip
    return Migration(pool, embedders, target, **{**defaults, **options})


async def test_a_migration_is_costed_then_done_and_the_old_vectors_are_dropped(
    console: Console,
    pool: AsyncConnectionPool,
    lexical: EmbeddingStore,
    embeddings_server: EmbeddingsServer,
) -> None:
    texts = [f"sort list number {n} of names" for n in range(30)]
    ids = [await add_intent(pool, lexical, text) for text in [*texts, f" {texts[0]} "]]

    looked = (await console.run("embeddings", "migrate", *TO, "--dry-run", "--json")).json
    plan = looked["would_migrate"]
    size = sum(map(len, texts)) + 2  # of a text with and without blanks, the longer
    assert (plan["source"], plan["target"], plan["intents"]) == (LEXICAL, TARGET, 31)
    assert (plan["texts"], plan["tokens"], plan["tokens_most"]) == (30, -(-size // 4), size)
    assert plan["usd_most"] == pytest.approx(size * 0.02 / 1e6)
    assert plan["seconds"] > 0
    assert embeddings_server.requests == []
    shown = await console.run("embeddings", "migrate", *TO, "--dry-run")
    assert "31 intents have no vector of it yet; 30 different texts" in shown.out
    assert "USD" in shown.out
    unasked = await console.run("embeddings", "migrate", *TO)
    assert (unasked.code, "--yes" in unasked.err) == (1, True)
    assert embeddings_server.requests == []

    done = await console.run("embeddings", "migrate", *TO, "--yes", "--json")
    assert done.code == 0, done.err
    result = done.last
    assert (result["target"], result["intents"], result["refused"]) == (TARGET, 31, 0)
    assert result["tokens"] == 30 * 6 + 5
    stages = [json.loads(line)["stage"] for line in done.out.splitlines() if '"stage"' in line]
    assert {"fill", "index", "check", "swap", "done"} >= set(stages) >= {"fill", "swap", "done"}
    assert Counter(embeddings_server.texts).most_common(1)[0][1] == 1

    provider = EmbeddingStore(
        pool,
        EmbedderRegistry(AsyncOpenAI(api_key="k", base_url=embeddings_server.url, max_retries=0)),
    )
    found = await SimilaritySearch(pool, provider).by_text("acme", texts[7])
    assert found.model == TARGET
    assert found.items[0].intent.id == ids[7]
    async with pool.connection() as connection:
        rows = await (
            await connection.execute("select count(*) from intents where embedding is not null")
        ).fetchall()
    assert rows == [(31,)]

    listed = (await console.run("embeddings", "list", "--json")).json["items"]
    assert [(m["model"], m["state"], m["vectors"]) for m in listed] == [
        (TARGET, "active", 31),
        (LEXICAL, "retired", 31),
    ]
    again = await console.run("embeddings", "migrate", *TO, "--drop-old", "--yes")
    assert (again.code, f"deleted the vectors of {LEXICAL}" in again.out) == (0, True), again.err
    assert [m.model for m in await list_models(pool)] == [TARGET]
    shown = await console.run("embeddings", "list")
    assert TARGET in shown.out


async def test_a_migration_that_was_killed_goes_on_and_buys_nothing_twice(
    console: Console,
    pool: AsyncConnectionPool,
    lexical: EmbeddingStore,
    embeddings_server: EmbeddingsServer,
) -> None:
    count = module.PAGE * 2 + 10
    for n in range(count):
        await add_intent(pool, lexical, f"task {n}")
    reached = asyncio.Event()

    async def hold(number: int, _body: dict[str, Any]) -> None:
        if number == 3:  # after the first attempt and the first page
            reached.set()
            await asyncio.sleep(60)

    embeddings_server.trouble = hold
    process = await console.start("embeddings", "migrate", *TO, "--yes", "--json")
    await asyncio.wait_for(reached.wait(), 60)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    embeddings_server.trouble = lambda _n, _b: asyncio.sleep(0)

    # It serves as before, and new intents get both vectors.
    client = AsyncOpenAI(api_key="k", base_url=embeddings_server.url, max_retries=0)
    both = EmbeddingStore(pool, EmbedderRegistry(client))
    states = {m.model: m.state for m in await list_models(pool)}
    assert states == {LEXICAL: "active", TARGET: "filling"}
    new = await add_intent(pool, both, "a task in between")
    async with pool.connection() as connection:
        rows = await (
            await connection.execute(
                "select model from intent_embeddings where intent_id = %s order by 1", [new]
            )
        ).fetchall()
    assert rows == [(LEXICAL,), (TARGET,)]
    found = await SimilaritySearch(pool, both).by_text("acme", "task 7")
    assert found.model == LEXICAL

    other = await console.run("embeddings", "migrate", "--to", "another-model", "--yes")
    assert (other.code, "is under way" in other.err) == (1, True)
    left = (await console.run("embeddings", "migrate", *TO, "--dry-run", "--json")).json
    assert left["would_migrate"]["texts"] == count - module.PAGE

    done = await console.run("embeddings", "migrate", *TO, "--yes", "--json")
    assert done.code == 0, done.err
    bought = Counter(embeddings_server.texts)
    # The request that was under way when it died is made again; whatever was recorded is not.
    assert sum(bought.values()) <= count + 2 + module.PAGE
    first_page = set(embeddings_server.requests[1]["input"])
    assert all(bought[text] == 1 for text in first_page)
    [active, *_] = await list_models(pool)
    assert (active.model, active.vectors) == (TARGET, count + 1)


async def test_a_migration_chooses_an_index_that_finds_what_there_is(
    pool: AsyncConnectionPool,
    lexical: EmbeddingStore,
    owner: AsyncConnectionPool,
    embeddings_server: EmbeddingsServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "EXACT_UP_TO", 150)
    monkeypatch.setattr(search, "CANDIDATES", 10)  # of all, many would find what few bits do not
    for number in range(160):
        await add_intent(pool, lexical, f"task {number}")
    await migration(owner, embeddings_server).run()
    # Sixty-four bits say too little.
    [active, *_] = await list_models(pool)
    assert (active.model, active.index_kind) == (TARGET, "halfvec")


async def test_an_intent_recorded_while_models_are_exchanged_is_owed_its_new_vector(
    pool: AsyncConnectionPool,
    lexical: EmbeddingStore,
    owner: AsyncConnectionPool,
    embeddings_server: EmbeddingsServer,
) -> None:
    await add_intent(pool, lexical, "sort a list")
    # Planned before the new model was known, recorded after it serves.
    late = await lexical.record(uuid4(), "acme", "sort the list")
    await migration(owner, embeddings_server).run()
    async with pool.connection() as connection:
        for write in late.writes:
            await connection.execute(write.statement, write.params)
        rows = await (await connection.execute("select count(*) from embeddings_owed")).fetchall()
    assert rows == [(1,)]


async def test_a_provider_that_refuses_leaves_the_old_model_and_no_trace(
    console: Console, pool: AsyncConnectionPool, lexical: EmbeddingStore,
    embeddings_server: EmbeddingsServer,
) -> None:  # fmt: skip
    await add_intent(pool, lexical, "sort a list")

    async def deny(_number: int, _body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"code": "model_not_found"}}, status=404)

    embeddings_server.trouble = deny
    said = await console.run("embeddings", "migrate", "--to", "no-such-model", "--yes")
    assert (said.code, "answers 404 (model_not_found)" in said.err) == (1, True)
    assert [m.model for m in await list_models(pool)] == [LEXICAL]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--to", "a model"), "'a model' is not the name"),
        (("--to", "m", "--index", "btree"), "no index 'btree'"),
    ],
)
async def test_what_is_no_model_or_index_is_refused(
    console: Console, arguments: tuple[str, ...], named: str
) -> None:
    said = await console.run("embeddings", "migrate", *arguments, "--yes")
    assert (said.code, named in said.err) == (1, True)


async def test_a_model_with_too_many_dimensions_says_what_to_add(
    console: Console, embeddings_server: EmbeddingsServer
) -> None:
    embeddings_server.native["text-embedding-3-large"] = 3072
    said = await console.run("embeddings", "migrate", "--to", "text-embedding-3-large", "--yes")
    assert (said.code, "--dimensions 1536" in said.err) == (1, True)


async def test_texts_that_are_refused_do_not_hold_up_the_migration(
    console: Console, pool: AsyncConnectionPool, lexical: EmbeddingStore,
    embeddings_server: EmbeddingsServer,
) -> None:  # fmt: skip
    async def refuse(_number: int, body: dict[str, Any]) -> web.Response | None:
        bad = any("forbidden" in text for text in body["input"])
        return web.json_response({"error": {"code": "content_filter"}}, status=400) if bad else None

    embeddings_server.trouble = refuse
    for text in ("something forbidden", "one", "two"):
        await add_intent(pool, lexical, text)
    done = await console.run("embeddings", "migrate", *TO, "--yes", "--json")
    assert done.code == 0, done.err
    assert (done.last["refused"], done.last["intents"]) == (1, 2)


async def test_going_back_uses_what_is_there_and_a_model_can_be_dropped(
    console: Console, pool: AsyncConnectionPool, lexical: EmbeddingStore,
    embeddings_server: EmbeddingsServer,
) -> None:  # fmt: skip
    await add_intent(pool, lexical, "sort a list")
    assert (await console.run("embeddings", "migrate", *TO, "--yes")).code == 0
    plan = (await console.run("embeddings", "migrate", "--to", LEXICAL, "--dry-run", "--json")).json
    assert (plan["would_migrate"]["intents"], plan["would_migrate"]["usd"]) == (0, 0.0)
    assert (await console.run("embeddings", "migrate", "--to", LEXICAL, "--yes")).code == 0
    active = await console.run("embeddings", "drop", LEXICAL, "--yes")
    assert (active.code, "is active" in active.err) == (1, True)
    unknown = await console.run("embeddings", "drop", "nothing", "--yes")
    assert (unknown.code, "qlp embeddings list" in unknown.err) == (1, True)
    dropped = await console.run("embeddings", "drop", TARGET, "--yes")
    assert dropped.code == 0, dropped.err
    async with pool.connection() as connection:
        rows = await (
            await connection.execute("select count(*) from embeddings where model = %s", [TARGET])
        ).fetchall()
    assert rows == [(0,)]


async def test_without_rights_or_provider_it_says_what_is_missing(
    console: Console, pool: AsyncConnectionPool, lexical: EmbeddingStore
) -> None:
    await add_intent(pool, lexical, "sort a list")
    del console.environment["OPENAI_BASE_URL"]
    for option in ("--dry-run", "--yes"):
        said = await console.run("embeddings", "migrate", *TO, option)
        assert (said.code, said.out, "needs a provider" in said.err) == (1, "", True)
        assert "go back" not in said.err, "nothing was changed"
    console.environment["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    del console.environment["DATABASE_ADMIN_URL"]
    said = await console.run("embeddings", "migrate", *TO, "--yes")
    assert (said.code, "DATABASE_ADMIN_URL" in said.err) == (1, True)
    said = await console.run("similarity", "index", "--kind", "hnsw", "--yes")
    assert (said.code, "DATABASE_ADMIN_URL" in said.err) == (1, True)


async def test_the_index_is_changed_beside_the_old_one_and_checked(
    console: Console, pool: AsyncConnectionPool, database: Database
) -> None:
    await fill(database, acme=400)
    plan = (
        await console.run("similarity", "index", "--kind", "halfvec", "--dry-run", "--json")
    ).json["would_build"]
    assert (plan["current"], plan["wanted"], plan["vectors"]) == ("binary", "halfvec", 400)
    done = await console.run("similarity", "index", "--kind", "halfvec", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["model"]["index_kind"] == "halfvec"
    assert done.json["built_seconds"] > 0
    checked = await console.run("similarity", "check", "--sample", "10", "--json")
    facts = checked.json
    assert (facts["index"], facts["valid"], facts["strays"]) == ("halfvec", True, [])
    assert (facts["vectors"], facts["sample"], facts["recall"]) == (400, 0, None)
    assert facts["index_bytes"] > 0
    said = await console.run("similarity", "check")
    assert "no intent lies among more than 4,000 vectors of its tenant" in said.out
    again = await console.run("similarity", "index", "--kind", "halfvec", "--dry-run")
    assert "searched by halfvec already" in again.out
    rebuilt = await console.run("similarity", "index", "--kind", "halfvec", "--rebuild", "--yes")
    assert rebuilt.code == 0, rebuilt.err
    none = await console.run("similarity", "index", "--kind", "exact", "--yes")
    assert none.code == 0, none.err
    shown = await console.run("similarity", "check", "--sample", "5")
    assert (shown.code, "index exact, valid" in shown.out) == (0, True)
    wrong = await console.run("similarity", "index", "--kind", "btree", "--yes")
    assert (wrong.code, "binary, hnsw" in wrong.err) == (1, True)


async def test_an_invalid_index_that_a_killed_build_left_is_built_again(
    console: Console, pool: AsyncConnectionPool, database: Database
) -> None:
    await fill(database, acme=100)
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        # As `create index concurrently` leaves it when its session dies.
        owner.execute(
            "create index intent_embeddings_1_hnsw on intent_embeddings_1 "
            "using hnsw (embedding vector_cosine_ops)"
        )
        owner.execute(
            "update pg_index set indisvalid = false "
            "where indexrelid = 'intent_embeddings_1_hnsw'::regclass"
        )
    done = await console.run("similarity", "index", "--kind", "hnsw", "--yes")
    assert done.code == 0, done.err
    facts = (await console.run("similarity", "check", "--sample", "5", "--json")).json
    assert (facts["index"], facts["valid"], facts["strays"]) == ("hnsw", True, [])


async def test_low_recall_is_an_alarm_with_the_fix(
    console: Console, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "EXACT_UP_TO", 1_000)
    monkeypatch.setenv("DATABASE_URL", database.url)
    await fill(database, acme=1_500)
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        # An index over too many lists, of which too few are looked at.
        owner.execute("drop index intent_embeddings_1_binary")
        owner.execute(
            "create index intent_embeddings_1_ivfflat on intent_embeddings_1 "
            "using ivfflat (embedding vector_cosine_ops) with (lists = 400)"
        )
        owner.execute("update embedding_models set index_kind = 'ivfflat'")
        owner.execute("analyze")
        # So few rows would be sorted, not looked up.
        owner.execute(f"alter database {database.name} set enable_sort = off")
    # In this process, for which so few vectors are many.
    said = await asyncio.to_thread(CliRunner().invoke, cli, ["similarity", "check"])
    assert said.exit_code == 1, said.output
    assert "below 0.97" in said.output
    assert "qlp similarity index --kind ivfflat --rebuild" in said.output
