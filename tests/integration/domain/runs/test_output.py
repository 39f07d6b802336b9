"""Live output: each chunk once, a cap per run, and one query for all who wait."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.application.handler import CommandHandler
from domain.application.repository import IntentRepository
from domain.contracts.heartbeat import MAX_CHUNK_CHARACTERS, MAX_LIVE_CHARACTERS, OutputChunk
from domain.eventlog.log import EventLog
from domain.intents.commands import CancelIntent
from domain.intents.event_parts import RunOutcome
from domain.intents.run_decisions import run_id_of
from domain.runs.output import POLL_SECONDS, RunOutput, Watched
from tests.support.intents.histories import TRACE, Histories
from tests.support.postgres import Database


def chunk(seq: int, text: str = "x") -> OutputChunk:
    return OutputChunk(seq=seq, stream="stdout", text=text)


def run_of(intent_id: UUID) -> Watched:
    return Watched(run_id_of(intent_id, 1), intent_id)


@pytest.fixture
def output(pool: AsyncConnectionPool) -> RunOutput:
    return RunOutput(pool)


@pytest.fixture
async def run(pool: AsyncConnectionPool) -> Watched:
    return run_of(await Histories.over(pool).running())


async def test_chunks_come_back_in_order_each_once(output: RunOutput, run: Watched) -> None:
    await output.add([(run, chunk(1, "b")), (run, chunk(0, "a\x00"))])
    await output.add([(run, chunk(1, "again")), (run, chunk(2, "c"))])
    assert [c.text for c in await output.after(run.run_id, -1)] == ["a\ufffd", "b", "c"]
    assert [c.seq for c in await output.after(run.run_id, 1)] == [2]


async def test_a_run_is_cut_at_its_cap_and_others_are_not(output: RunOutput, run: Watched) -> None:
    full = "x" * MAX_CHUNK_CHARACTERS
    count = MAX_LIVE_CHARACTERS // MAX_CHUNK_CHARACTERS
    other = Watched(uuid4(), uuid4())
    for start in range(0, count + 4, 4):
        beat = [(run, chunk(start + n, full)) for n in range(4)]
        await output.add([*beat, (other, chunk(start))])
        await output.add(beat)  # the host did not hear the answer
    assert len(await output.after(run.run_id, -1)) == count
    assert len(await output.after(other.run_id, -1)) == count // 4 + 1


async def test_who_waits_is_woken_by_what_another_process_stores(
    output: RunOutput, run: Watched, pool: AsyncConnectionPool
) -> None:
    waiting = asyncio.create_task(output.wait(run, -1, 60))
    await asyncio.sleep(0)
    await RunOutput(pool).add([(run, chunk(0))])
    assert await waiting
    assert (await output.progress(run)).last_seq == 0


async def test_waiting_ends_with_the_run_or_the_intent(
    output: RunOutput, pool: AsyncConnectionPool
) -> None:
    histories = Histories.over(pool)
    finished, cancelled = await histories.running(), await histories.running()
    waits = [
        asyncio.create_task(output.wait(run_of(each), -1, 60)) for each in (finished, cancelled)
    ]
    await histories.run_ends(finished, RunOutcome(verdict="succeeded"))
    handler = CommandHandler(IntentRepository(EventLog(pool)), lambda _state: None)
    await handler.handle(cancelled, CancelIntent(None, datetime.now(UTC)), traceparent=TRACE)
    assert await asyncio.gather(*waits) == [True, True]


async def test_many_who_wait_cost_one_query_now_and_then(
    pool: AsyncConnectionPool, run: Watched
) -> None:
    class Counting(RunOutput):
        looks = 0

        async def _progress(self, runs):  # type: ignore[no-untyped-def]
            Counting.looks += 1
            return await super()._progress(runs)

    output = Counting(pool)
    seconds = 4 * POLL_SECONDS
    seen = await asyncio.gather(*(output.wait(run, -1, seconds) for _ in range(50)))
    assert not any(seen)
    assert 1 <= Counting.looks <= 5


async def test_old_output_is_thrown_away(
    output: RunOutput, run: Watched, database: Database
) -> None:
    await output.add([(run, chunk(0)), (run, chunk(1))])
    assert await output.purge() == 0
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("update run_output set recorded_at = now() - interval '2 days'")
    assert await output.purge() == 2
    assert await output.after(run.run_id, -1) == []
