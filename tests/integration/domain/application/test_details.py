"""Rows that were written before intents had details."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.application.details import detailed
from domain.application.repository import IntentRepository
from domain.eventlog.log import EventLog
from domain.operations.projections import rebuild, verify
from domain.projections.intents import IntentReads, IntentRow
from domain.projections.rebuild.contract import Progress
from tests.support.intents.histories import Histories


def ignore(_progress: Progress) -> None:
    pass


async def execute(pool: AsyncConnectionPool, statement: bytes, params: Any = None) -> None:
    async with pool.connection() as connection:
        await connection.execute(statement, params)


async def rows(reads: IntentReads, *intent_ids: UUID) -> list[IntentRow]:
    found = [await reads.get("acme", intent_id) for intent_id in intent_ids]
    return [row for row in found if row is not None]


async def test_they_are_shown_with_details_and_get_them_when_they_move_or_are_rebuilt(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    histories = Histories.over(pool)
    ended, unfinished = await histories.succeeded(), await histories.running()
    reads, repository = IntentReads(pool), IntentRepository(EventLog(pool))
    new = (await reads.list("acme")).items
    assert all(row.details for row in new)
    await execute(owner, b"update intent_states set details = null")
    old = (await reads.list("acme")).items
    assert old == [replace(row, details=None) for row in new]
    assert await detailed(repository, old) == new
    assert (await verify(pool, "intent_states")).differing == 0

    await histories.cancel(unfinished)
    assert [row.details for row in await rows(reads, ended, unfinished)] == [
        None,
        next(row.details for row in new if row.id == unfinished),
    ]

    await rebuild(owner, "intent_states", on_progress=ignore).run()
    assert await rows(reads, ended) == [row for row in new if row.id == ended]
    assert (await verify(pool, "intent_states")).differing == 0


async def test_one_that_cannot_be_folded_is_shown_as_it_is(
    pool: AsyncConnectionPool, owner: AsyncConnectionPool
) -> None:
    intent_id = await Histories.over(pool).succeeded()
    await execute(owner, b"update intent_states set details = null")
    await execute(owner, b"alter table events disable trigger user")
    await execute(owner, b"update events set data = '{}' where version = 1")
    reads, repository = IntentReads(pool), IntentRepository(EventLog(pool))
    found = await rows(reads, intent_id)
    assert len(found) == 1
    assert await detailed(repository, found) == found
