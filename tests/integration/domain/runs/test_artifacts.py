"""Contents are kept once per tenant, claimed with the result, and thrown away in time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from domain.contracts.job import Artifact, SandboxResult, Verdict
from domain.database.pool import fetch
from domain.messaging.inbox import outcome_from
from domain.runs.artifacts import Artifacts, UploadLimitExceeded, WrongHash
from tests.support.intents.histories import Histories
from tests.support.postgres import Database

LIMIT = 1000


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def left(name: str, content: bytes, *, carried: bool, **changes: Any) -> Artifact:
    body = base64.b64encode(content).decode() if carried else None
    values = {"name": name, "size": len(content), "sha256": sha(content), "content": body}
    return Artifact(**{**values, **changes})


def result_of(intent_id: UUID, *artifacts: Artifact) -> SandboxResult:
    return SandboxResult(
        run_id=uuid4(), intent_id=intent_id, verdict=Verdict.SUCCEEDED, artifacts=artifacts
    )


def age(database: Database, days: int, *tables: str) -> None:
    """Make all rows so old, as the owner: the application may not."""
    columns = {
        "artifact_contents": "stored_at",
        "artifact_uploads": "uploaded_at",
        "artifact_claims": "claimed_at",
    }
    with psycopg.connect(database.admin_url) as connection:
        for table in tables:
            connection.execute(
                sql.SQL("update {} set {} = now() - make_interval(days => {})").format(
                    sql.Identifier(table),
                    sql.Identifier(columns[table]),
                    sql.Literal(days),
                )
            )


async def record(pool: AsyncConnectionPool, store: Artifacts, result: SandboxResult) -> None:
    """What the inbox does with a claim, without an event beside it."""
    claimed = await store.claim("acme", result)
    for write in claimed.writes:
        await fetch(pool, write.statement, write.params)  # type: ignore[arg-type]


@pytest.fixture
def store(pool: AsyncConnectionPool) -> Artifacts:
    return Artifacts(pool)


async def test_an_upload_can_be_repeated_and_is_one_content(
    store: Artifacts, pool: AsyncConnectionPool
) -> None:
    run_id = uuid4()
    for _ in range(2):
        await store.upload("acme", run_id, sha(b"x"), b"x", LIMIT)
    await store.upload("acme", uuid4(), sha(b"x"), b"x", LIMIT)
    [[count]] = await fetch(pool, b"select count(*) from artifact_contents", {})
    assert count == 1
    assert await store.content("acme", sha(b"x")) == b"x"


async def test_a_tenant_cannot_have_what_another_uploaded(store: Artifacts) -> None:
    await store.upload("acme", uuid4(), sha(b"x"), b"x", LIMIT)
    assert await store.content("other", sha(b"x")) is None
    claimed = await store.claim("other", result_of(uuid4(), left("x", b"x", carried=False)))
    assert [each.reason for each in claimed.skipped] == ["was not uploaded"]


async def test_a_content_that_is_not_its_hash_is_refused(store: Artifacts) -> None:
    with pytest.raises(WrongHash, match=sha(b"y")):
        await store.upload("acme", uuid4(), sha(b"x"), b"y", LIMIT)
    assert await store.content("acme", sha(b"x")) is None


async def test_a_runs_uploads_stay_within_its_limit_even_at_once(store: Artifacts) -> None:
    run_id = uuid4()
    contents = [bytes([n]) * 400 for n in range(6)]
    uploads = [store.upload("acme", run_id, sha(c), c, LIMIT) for c in contents]
    outcomes = await asyncio.gather(*uploads, return_exceptions=True)
    assert [type(each) for each in outcomes if each is not None] == [UploadLimitExceeded] * 4
    with pytest.raises(UploadLimitExceeded, match="1000"):
        await store.upload("acme", run_id, sha(b"z" * 300), b"z" * 300, LIMIT)


async def test_a_result_claims_what_it_carries_and_what_was_uploaded(
    store: Artifacts, pool: AsyncConnectionPool
) -> None:
    intent_id = await Histories.over(pool).running()
    await store.upload("acme", uuid4(), sha(b"large"), b"large", LIMIT)
    result = result_of(
        intent_id,
        left("a/small.txt", b"small", carried=True),
        left("b.bin", b"large", carried=False),
        left("c.bin", b"never came", carried=False),
        left("d.txt", b"truth", carried=True, sha256=sha(b"lie")),
        left("e.txt", b"truth", carried=True, size=4),
        left("f.txt", b"x", carried=True).model_copy(update={"content": "not base64!"}),
    )
    claimed = await store.claim("acme", result)
    assert [each.name for each in claimed.artifacts] == ["a/small.txt", "b.bin"]
    assert {each.name: each.reason for each in claimed.skipped} == {
        "c.bin": "was not uploaded",
        **dict.fromkeys(("d.txt", "e.txt", "f.txt"), "its content does not match its hash"),
    }
    outcome = outcome_from(result, claimed)
    assert [each.name for each in outcome.artifacts] == ["a/small.txt", "b.bin"]
    assert len(outcome.skipped_artifacts) == 4
    await record(pool, store, result)
    hashes = {each.sha256 for each in claimed.artifacts}
    assert await store.available("acme", hashes) == hashes
    assert await store.available("other", hashes) == set()
    assert await store.content("acme", sha(b"small")) == b"small"


async def test_what_nobody_claimed_within_a_day_is_thrown_away(
    store: Artifacts, pool: AsyncConnectionPool, database: Database
) -> None:
    await store.upload("acme", uuid4(), sha(b"x"), b"x", LIMIT)
    assert await store.purge(30) == 0
    age(database, 2, "artifact_contents", "artifact_uploads")
    assert await store.purge(30) == 1
    assert await store.content("acme", sha(b"x")) is None
    assert await fetch(pool, b"select from artifact_uploads", {}) == []


async def test_a_claimed_content_lives_as_long_as_its_youngest_claim(
    store: Artifacts, pool: AsyncConnectionPool, database: Database
) -> None:
    first = result_of(uuid4(), left("x.txt", b"x", carried=True))
    await record(pool, store, first)
    age(database, 40, "artifact_contents", "artifact_claims")
    second = result_of(uuid4(), left("y.txt", b"x", carried=True))
    await record(pool, store, second)
    age(database, 40, "artifact_contents")
    assert await store.purge(30) == 0
    age(database, 31, "artifact_claims")
    assert await store.purge(30) == 1
    assert await store.available("acme", [sha(b"x")]) == set()
    assert await fetch(pool, b"select from artifact_claims", {}) == []


async def test_a_claim_keeps_the_purge_from_an_old_upload(
    store: Artifacts, pool: AsyncConnectionPool, database: Database
) -> None:
    await store.upload("acme", uuid4(), sha(b"x"), b"x", LIMIT)
    age(database, 2, "artifact_contents")
    claimed = await store.claim("acme", result_of(uuid4(), left("x", b"x", carried=False)))
    assert await store.purge(30) == 0
    assert [each.name for each in claimed.artifacts] == ["x"]
