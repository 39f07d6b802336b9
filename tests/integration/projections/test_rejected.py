"""Rejected messages are kept once, with the reason."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.projections.rejected import MAX_BODY_BYTES, RejectedMessages


@pytest.fixture
def rejected(pool: AsyncConnectionPool) -> RejectedMessages:
    return RejectedMessages(pool)


async def record(rejected: RejectedMessages, body: bytes = b"{}", source: str = "intents") -> UUID:
    return await rejected.record(
        source=source,
        tenant_id=None,
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
