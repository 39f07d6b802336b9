"""Similar intents over HTTP, and what an outage of the embedding provider does, on whole stacks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.openai.embeddings import EmbeddingsServer
from tests.support.stack import ECHO, NOBODYS, Client, Reply, RunningStack, problem, running_stack


async def search(client: Client, **body: Any) -> Reply:
    return await client.call("POST", "/intents/search", body)


async def submit(client: Client, text: str) -> str:
    return str((await client.run({"text": text, "program": ECHO}))["id"])


def ids(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.body
    return [item["intent"]["id"] for item in reply.body["items"]]


async def found_soon(client: Client, text: str) -> Reply:
    """The first answer to a search that finds something, within seconds."""
    async with asyncio.timeout(20):
        while not ids(found := await search(client, text=text)):
            await asyncio.sleep(0.05)
    return found


async def test_similar_intents_are_found_by_sentence_and_by_intent(client: Client) -> None:
    totals = await submit(client, "Plot the monthly totals of this CSV file")
    close = await submit(client, "plot monthly totals from a CSV")
    far = await submit(client, "resize an image to a square")

    found = await search(client, text="plot the MONTHLY totals of this csv file")
    assert ids(found) == [totals, close, far]
    assert found.body["model"] == "lexical-v1"
    [first, second, _] = found.body["items"]
    assert first["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert first["intent"]["text"] == "Plot the monthly totals of this CSV file"
    assert first["intent"]["status"] == "succeeded"
    assert first["links"]["self"] == f"/api/intents/{totals}"
    assert second["similarity"] > 0.5
    assert ids(await search(client, text="plot totals", limit=1)) == [close]
    assert far not in ids(await search(client, text="plot monthly totals", threshold=0.4))

    others = await client.get(f"/intents/{totals}/similar?limit=1")
    assert ids(others) == [close]
    followed = await client.call("GET", others.body["items"][0]["links"]["similar"][4:])
    assert totals in ids(followed)


async def test_conditions_and_bounds_of_time_hold(client: Client) -> None:
    good = await submit(client, "sort a list")
    bad = (
        await client.run(
            {
                "text": "sort a list badly",
                "program": {"language": "shell", "files": {"main.sh": "exit 3"}},
            }
        )
    )["id"]
    now = datetime.now(UTC)
    later, earlier = (now + timedelta(hours=1)).isoformat(), (now - timedelta(hours=1)).isoformat()
    text = "sort a list"
    assert ids(await search(client, text=text, status="failed")) == [bad]
    assert ids(await search(client, text=text, status=["failed", "succeeded"])) == [good, bad]
    assert ids(await search(client, text=text, language="python")) == [good]
    assert ids(await search(client, text=text, created_after=later)) == []
    assert ids(await search(client, text=text, created_before=later, created_after=earlier)) == [
        good,
        bad,
    ]
    path = f"/intents/{good}/similar"
    assert ids(await client.get(f"{path}?status=failed,cancelled")) == [bad]
    assert ids(await client.get(f"{path}?language=python")) == []


async def test_a_tenant_sees_its_own_alone_operators_too(
    stack: RunningStack, client: Client
) -> None:
    mine = await submit(client, "the ledger of our secret project")
    other = await stack.new_tenant()
    theirs = await submit(other, "the ledger of their secret project")
    assert ids(await search(client, text="secret ledger", limit=50)) == [mine]
    assert ids(await search(other, text="secret ledger", limit=50)) == [theirs]
    operator = await stack.operator_of(other)
    assert ids(await search(operator, text="secret ledger", limit=50)) == [theirs]
    hidden = await other.get(f"/intents/{mine}/similar")
    problem(hidden, 404, "not-found")
    tried = await other.call("POST", "/intents/search", {"text": "x", "tenant": "acme"})
    assert (tried.status, tried.body["errors"][0]["pointer"]) == (400, "/tenant")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/text"),
        ({"text": ""}, "/text"),
        ({"text": "___"}, "/text"),
        ({"text": "x" * 8_001}, "/text"),
        ({"text": "a\x00b"}, "/text"),
        ({"text": 3}, "/text"),
        ({"text": "x", "limit": 0}, "/limit"),
        ({"text": "x", "limit": 51}, "/limit"),
        ({"text": "x", "threshold": 1.5}, "/threshold"),
        ({"text": "x", "status": "done"}, "/status/0"),
        ({"text": "x", "status": []}, "/status"),
        ({"text": "x", "language": "C++"}, "/language"),
        ({"text": "x", "created_after": "2026-03-01"}, "/created_after"),
        ({"text": "x", "created_before": "soon"}, "/created_before"),
        ({"text": "x", "nearest": 3}, "/nearest"),
    ],
)
async def test_a_wrong_search_is_told_which_field(
    client: Client, body: dict[str, Any], pointer: str
) -> None:
    reply = await search(client, **body)
    assert problem(reply, 400, "invalid-request")["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=51", "/limit"),
        ("threshold=nan", "/threshold"),
        ("status=done", "/status/0"),
        ("created_after=x", "/created_after"),
        ("q=1", "/q"),
    ],
)
async def test_a_wrong_query_is_told_which_parameter(
    client: Client, query: str, pointer: str
) -> None:
    intent_id = (await client.submit({"program": ECHO})).body["id"]
    reply = await client.get(f"/intents/{intent_id}/similar?{query}")
    assert problem(reply, 400, "invalid-request")["errors"][0]["pointer"] == pointer


async def test_what_cannot_be_compared_is_answered_plainly(
    stack: RunningStack, client: Client
) -> None:
    bare = (await client.run({"program": ECHO}))["id"]
    nothing = await client.get(f"/intents/{bare}/similar")
    assert (nothing.status, nothing.body["items"]) == (200, [])
    assert (await client.get(f"/intents/{NOBODYS}/similar")).status == 404
    assert (await client.get("/intents/nothing/similar")).status == 404
    unauthenticated = stack.client_with(None)
    assert (await search(unauthenticated, text="x")).status == 401
    assert (await unauthenticated.get(f"/intents/{bare}/similar")).status == 401
    assert (await client.call("POST", "/intents/search", data=b"{")).status == 400
    assert (await client.call("POST", "/intents/search", data=b"x" * 300_000)).status == 413


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_outage_of_the_provider_neither_loses_nor_blocks_an_intent(
    open_path: Path, embeddings_server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", embeddings_server.url)
    monkeypatch.setenv("QLP_EMBEDDING_MODEL", "text-embedding-3-small")
    monkeypatch.setenv("QLP_EMBEDDING_DIMENSIONS", "64")
    monkeypatch.setenv("QLP_RECOVERY_SCHEDULE", "*/2 * * * * *")
    async with running_stack(open_path / "stack") as stack:
        client = stack.client
        first = await submit(client, "sort a list of names")
        found = await found_soon(client, "sort a list of names")  # the intent did not wait for it
        assert (ids(found), found.body["model"]) == ([first], "text-embedding-3-small@64")

        await embeddings_server.stop()
        second = await submit(client, "plot the totals")
        assert (await client.get(f"/intents/{second}")).body["status"] == "succeeded"
        # What is recorded can be searched; what is not, cannot now, and the answer says so.
        assert ids(await search(client, text=" sort a list of names\n")) == [first]
        away = await search(client, text="something new")
        problem(away, 503, "embedder-unavailable")
        assert int(away.headers["Retry-After"]) >= 1
        health = (await client.get("/health")).body["checks"]["embedder"]
        assert health["status"] == "degraded"
        assert "cannot be reached" in health["problem"]
        assert health["owed"] == 1

        await embeddings_server.start()
        async with asyncio.timeout(60):
            while second not in ids(await search(client, text="sort a list of names", limit=50)):
                await asyncio.sleep(0.5)
        health = (await client.get("/health")).body["checks"]["embedder"]
        assert (health["status"], "owed" in health) == ("ok", False)
        # Once for the intent, and perhaps for a search before that.
        assert embeddings_server.texts.count("sort a list of names") <= 2
