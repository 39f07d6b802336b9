"""Rejected messages are kept once, with the reason."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.messaging.rejected import MAX_BODY_BYTES, RejectedMessages
from tests.support.postgres import Database
from tests.support.qlp import qlp


@pytest.fixture
def rejected(pool: AsyncConnectionPool) -> RejectedMessages:
    return RejectedMessages(pool)


async def record(
    rejected: RejectedMessages,
    body: bytes = b"{}",
    source: str = "intents",
    tenant_id: str | None = None,
) -> UUID:
    return await rejected.record(
        source=source,
        tenant_id=tenant_id,
        reason="InvalidEnvelope",
        description="body: not JSON",
        body=body,
        message_id="m-1",
        traceparent=None,
    )


async def test_the_same_content_is_one_message_with_its_deliveries_counted(
    rejected: RejectedMessages,
) -> None:
    ids = await asyncio.gather(*(record(rejected) for _ in range(8)))
    assert len(set(ids)) == 1
    message = await rejected.get(ids[0])
    assert message is not None
    assert message.deliveries == 8
    assert message.first_seen_at <= message.last_seen_at
    assert (message.body, message.reason, message.source) == (b"{}", "InvalidEnvelope", "intents")


async def test_other_content_or_another_source_is_another_message(
    rejected: RejectedMessages,
) -> None:
    ids = {
        await record(rejected),
        await record(rejected, b"[]"),
        await record(rejected, source="sandbox-results"),
    }
    assert len(ids) == 3


async def test_hostile_content_is_kept_within_bounds(rejected: RejectedMessages) -> None:
    nasty = "\x00\ud800" + "é" * 10_000
    rejected_id = await rejected.record(
        source="intents",
        tenant_id=None,
        reason="r",
        description=nasty,
        body=b"\x00\xff" * MAX_BODY_BYTES,
        message_id=nasty,
        traceparent=nasty,
    )
    message = await rejected.get(rejected_id)
    assert message is not None
    assert len(message.description) == 2_000
    assert message.description.startswith("\N{REPLACEMENT CHARACTER}?é")
    assert len(message.body) == MAX_BODY_BYTES


async def test_messages_are_listed_in_pages_the_last_seen_first(rejected: RejectedMessages) -> None:
    ids = [await record(rejected, str(number).encode()) for number in range(5)]
    await record(rejected, b"0")  # again: now the last seen
    first = await rejected.list(limit=3)
    rest = await rejected.list(limit=3, cursor=first.next_cursor)
    assert [m.id for m in first.items + rest.items] == [ids[0], *reversed(ids[1:])]
    assert rest.next_cursor is None
    assert await rejected.get(uuid4()) is None


async def test_only_messages_not_seen_for_long_are_deleted(
    rejected: RejectedMessages, database: Database
) -> None:
    old = [await record(rejected, f"{n}".encode()) for n in range(3)]
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("update rejected_messages set last_seen_at = now() - interval '31 days'")
    fresh = await record(rejected, b"fresh")
    await record(rejected, b"0")  # seen again
    before = datetime.now(UTC) - timedelta(days=30)
    assert await rejected.count_older(before) == 2

    looked = await qlp(
        "rejected", "purge", "--older-than", "30", "--dry-run", "--json", url=database.url
    )
    assert (looked.json["count"], looked.json["dry_run"]) == (2, True)
    assert await rejected.count_older(before) == 2
    done = await qlp("rejected", "purge", "--older-than", "30", "--yes", url=database.url)
    assert (done.code, done.out.strip()) == (0, "deleted: 2")
    left = {message.id for message in (await rejected.list()).items}
    assert left == {fresh, old[0]}


async def test_an_operator_sees_tenant_and_id_in_the_list_and_the_body_of_one(
    rejected: RejectedMessages, database: Database
) -> None:
    shown_id = await record(rejected, b"the body", tenant_id="acme")

    async def said(*arguments: str) -> Any:
        return await qlp("rejected", *arguments, url=database.url)

    header, line = (await said("list")).out.splitlines()
    assert header.split()[:6] == ["id", "last", "seen", "source", "tenant", "message"]
    assert line.split()[3:6] == ["intents", "acme", "m-1"]
    [item] = (await said("list", "--json")).json["items"]
    assert (item["id"], item["body_bytes"], "body" in item) == (str(shown_id), 8, False)
    shown = (await said("show", str(shown_id))).out
    assert {"tenant_id: acme", "message_id: m-1", "the body"} < set(shown.splitlines())
    assert (await said("show", str(shown_id), "--json")).json["body"] == "the body"
