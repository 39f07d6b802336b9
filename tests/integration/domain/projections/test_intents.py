"""The read model of intents."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.database.paging import InvalidCursor
from domain.intents.text import text_hash
from domain.projections.intents import IntentReads, IntentRow, upsert
from tests.support.postgres import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(**changes: Any) -> IntentRow:
    values: dict[str, Any] = {
        "id": uuid4(),
        "tenant_id": "acme",
        "version": 1,
        "status": "submitted",
        "user_input": "add two numbers",
        "text_sha256": text_hash("add two numbers"),
        "language": None,
        "created_at": NOW,
        "updated_at": NOW,
        "expected_by": NOW,
        "completed_at": None,
        "reused_from": None,
        "details": {},
        "outcome": None,
    }
    return IntentRow(**{**values, **changes})


async def write(pool: AsyncConnectionPool, *rows: IntentRow) -> None:
    async with pool.connection() as connection:
        for each in rows:
            inline = upsert(each)
            await connection.execute(inline.statement, inline.params)


@pytest.fixture
def reads(pool: AsyncConnectionPool) -> IntentReads:
    return IntentReads(pool)


async def test_a_row_reads_back_as_written(reads: IntentReads, pool: AsyncConnectionPool) -> None:
    done = row(
        status="succeeded",
        language="python",
        completed_at=NOW,
        outcome={"stdout": "nul \u0000, é", "exit_code": 0},
    )
    await write(pool, done)
    assert await reads.get("acme", done.id) == done


async def test_an_older_write_never_overwrites_a_newer_one(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    newer = row(version=3, status="running")
    older = dataclasses.replace(newer, version=2, status="planned")
    same = dataclasses.replace(newer, status="failed")
    await write(pool, newer, older, same)
    assert await reads.get("acme", newer.id) == newer


async def test_a_tenant_cannot_see_an_intent_of_another(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    mine = row()
    await write(pool, mine)
    assert await reads.get("other", mine.id) is None
    assert (await reads.list("other")).items == []
    assert await reads.latest_solved("other", text_hash("add two numbers")) is None


async def test_pages_have_no_gap_and_no_repetition_while_intents_come_in(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    # Three rows share each moment, so the order within a moment matters too.
    known = [row(created_at=NOW + timedelta(seconds=number // 3)) for number in range(50)]
    await write(pool, *known)
    seen: list[UUID] = []
    cursor = None
    while True:
        page = await reads.list("acme", limit=7, cursor=cursor)
        seen += [item.id for item in page.items]
        await write(pool, row(created_at=NOW + timedelta(hours=1)))
        if (cursor := page.next_cursor) is None:
            break
    newest_first = sorted(known, key=lambda item: (item.created_at, item.id), reverse=True)
    assert seen == [item.id for item in newest_first]


async def test_lists_are_filtered_by_status_and_time(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    rows = [
        row(created_at=NOW + timedelta(minutes=number), status=status)
        for number, status in enumerate(["submitted", "failed", "submitted", "failed"])
    ]
    await write(pool, *rows)
    failed = await reads.list("acme", status="failed", limit=1)
    assert [item.id for item in failed.items] == [rows[3].id]
    rest = await reads.list("acme", status="failed", limit=1, cursor=failed.next_cursor)
    assert ([item.id for item in rest.items], rest.next_cursor) == ([rows[1].id], None)
    window = await reads.list(
        "acme", created_after=rows[1].created_at, created_before=rows[3].created_at
    )
    assert [item.id for item in window.items] == [rows[2].id, rows[1].id]


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", "f" * 32, "A" * 33, "AAAA\n"])
async def test_a_forged_cursor_is_refused(reads: IntentReads, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        await reads.list("acme", cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 201])
async def test_page_sizes_are_bounded(reads: IntentReads, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        await reads.list("acme", limit=limit)


async def test_versions_of_many_intents_take_one_query(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    rows = [row(version=number + 1) for number in range(3)]
    await write(pool, *rows)
    versions = await reads.versions([*(item.id for item in rows), uuid4()])
    assert versions == {item.id: (item.version, "submitted") for item in rows}
    assert await reads.versions([]) == {}


async def test_the_last_solved_intent_of_the_same_words_is_found(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    digest = text_hash("add two numbers")
    assert await reads.latest_solved("acme", digest) is None
    solved = [
        row(status="succeeded", completed_at=NOW + timedelta(minutes=number)) for number in (2, 1)
    ]
    await write(pool, *solved, row(status="failed", completed_at=NOW + timedelta(hours=1)))
    assert await reads.latest_solved("acme", digest) == solved[0].id
    assert await reads.latest_solved("acme", text_hash("add three numbers")) is None


async def test_a_program_that_was_made_for_another_text_is_none_of_these_words(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    own = row(status="succeeded", completed_at=NOW)
    reused = row(
        status="succeeded",
        completed_at=NOW,
        reused_from=uuid4(),
        user_input="sum",
        text_sha256=text_hash("sum"),
    )
    later = row(status="succeeded", completed_at=NOW + timedelta(minutes=2), reused_from=own.id)
    await write(pool, own, reused, later)
    assert await reads.latest_solved("acme", text_hash("add two numbers")) == own.id
    assert await reads.latest_solved("acme", text_hash("sum")) is None


BASE = timedelta(seconds=30)


async def next_attempt_in(pool: AsyncConnectionPool, intent_id: UUID) -> float:
    async with pool.connection() as connection:
        rows = await connection.execute(
            """select extract(epoch from next_attempt_at - now())::float8
            from intent_recovery where intent_id = %s""",
            [intent_id],
        )
        [[seconds]] = await rows.fetchall()
    return float(seconds)


async def make_due(pool: AsyncConnectionPool) -> None:
    async with pool.connection() as connection:
        await connection.execute("update intent_recovery set next_attempt_at = now()")


async def test_only_unfinished_intents_that_no_longer_move_are_claimed(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    stalled = [row(status=status) for status in ("submitted", "planned", "running")]
    await write(
        pool,
        *stalled,
        *(row(status=s, expected_by=None) for s in ("succeeded", "failed", "cancelled")),
        row(expected_by=NOW + timedelta(minutes=5)),
    )
    claimed = await reads.claim_stalled(NOW + timedelta(minutes=1), BASE, 100)
    assert {item.intent_id for item in claimed} == {item.id for item in stalled}
    assert {(item.tenant_id, item.version, item.attempts) for item in claimed} == {("acme", 1, 1)}


async def test_each_claim_without_progress_doubles_the_wait_up_to_15_minutes(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    stalled = row()
    await write(pool, stalled)
    soon = NOW + timedelta(minutes=1)
    for attempt, wait in enumerate([60, 120, 240, 480, 900, 900], start=1):
        [claimed] = await reads.claim_stalled(soon, BASE, 10)
        assert claimed.attempts == attempt
        assert await next_attempt_in(pool, stalled.id) == pytest.approx(wait, abs=25)
        assert await reads.claim_stalled(soon, BASE, 10) == []
        await make_due(pool)


async def test_progress_starts_the_count_anew(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    stalled = row()
    await write(pool, stalled)
    soon = NOW + timedelta(minutes=1)
    for _ in range(3):
        await reads.claim_stalled(soon, BASE, 10)
        await make_due(pool)
    await write(pool, dataclasses.replace(stalled, version=2, status="planned"))
    [claimed] = await reads.claim_stalled(soon, BASE, 10)
    assert (claimed.version, claimed.attempts) == (2, 1)
    assert await next_attempt_in(pool, stalled.id) == pytest.approx(60, abs=25)


async def test_what_merely_waits_is_looked_for_again_soon_and_no_try_is_counted(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    waiting = row()
    await write(pool, waiting)
    soon = NOW + timedelta(minutes=1)
    for _ in range(5):
        [claimed] = await reads.claim_stalled(soon, BASE, 10)
        assert claimed.attempts == 1
        await reads.release_waiting([claimed.intent_id], BASE)
        assert await next_attempt_in(pool, waiting.id) == pytest.approx(60, abs=25)
        assert await reads.claim_stalled(soon, BASE, 10) == []
        await make_due(pool)


async def test_those_looked_at_longest_ago_come_first(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    old = [row(expected_by=NOW - timedelta(hours=1)) for _ in range(3)]
    await write(pool, *old)
    late = NOW + timedelta(days=3650)
    assert len(await reads.claim_stalled(late, BASE, 3)) == 3
    new = row(expected_by=NOW)
    await write(pool, new)
    await make_due(pool)
    [first] = await reads.claim_stalled(late, BASE, 1)
    assert first.intent_id == new.id


async def test_two_instances_never_claim_the_same_intent(
    reads: IntentReads, pool: AsyncConnectionPool
) -> None:
    rows = [row() for _ in range(300)]
    await write(pool, *rows)
    for attempt in (1, 2, 3):
        claims = await asyncio.gather(
            *(reads.claim_stalled(NOW + timedelta(minutes=1), BASE, 50) for _ in range(16))
        )
        ids = [item.intent_id for claimed in claims for item in claimed]
        assert len(ids) == len(set(ids))
        while more := await reads.claim_stalled(NOW + timedelta(minutes=1), BASE, 200):
            ids += [item.intent_id for item in more]
        assert sorted(ids) == sorted(item.id for item in rows)
        assert {item.attempts for claimed in claims for item in claimed} == {attempt}
        await make_due(pool)


async def test_marks_of_recovery_go_once_their_intent_has_ended(
    reads: IntentReads, pool: AsyncConnectionPool, database: Database
) -> None:
    waiting, ended = row(status="running"), row(status="running")
    await write(pool, waiting, ended)
    claimed = await reads.claim_stalled(NOW + timedelta(minutes=1), BASE, 100)
    assert {each.intent_id for each in claimed} == {waiting.id, ended.id}
    await write(pool, dataclasses.replace(ended, version=9, status="succeeded", expected_by=None))
    assert await reads.forget_recovered() == 0
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("update intent_recovery set next_attempt_at = now() - interval '2 days'")
    assert await reads.forget_recovered() == 1
    with psycopg.connect(database.admin_url) as owner:
        left = owner.execute("select intent_id from intent_recovery").fetchall()
    assert left == [(waiting.id,)]
