"""What readers of a projection that follows the log can rely on."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.intent_streams import stream_of
from domain.eventlog.models import InlineWrite
from domain.intents.event_parts import RunOutcome
from domain.projections.following.contract import StreamEvent
from domain.projections.following.parked import ParkedStream, parked_streams
from domain.projections.following.runner import ProjectionOutdated, Runner
from domain.projections.following.usage_daily import UsageChange, UsageDaily
from domain.projections.registry import Projections
from tests.support.intents.histories import USAGE, Histories, run, table
from tests.support.postgres import Database

#: Ends the connection at the n-th write of a batch, once; sequences survive a rollback.
KILL_AT = """
    create sequence writes;
    create function kill_at() returns trigger language plpgsql security definer as $$
    begin
        if nextval('writes') = {n} then
            perform pg_terminate_backend(pg_backend_pid());
        end if;
        return null;
    end $$;
    create trigger kill after insert or update on usage_daily
        for each statement execute function kill_at();
    create trigger kill after insert or update on usage_daily_streams
        for each statement execute function kill_at();
    create trigger kill before update of positions on followers
        for each statement execute function kill_at();
    create trigger kill_after after update of positions on followers
        for each statement execute function kill_at();
    create constraint trigger kill_in_commit after update of positions on followers
        deferrable initially deferred for each row execute function kill_at();
"""


async def expected_usage(pool: AsyncConnectionPool) -> list[tuple[Any, ...]]:
    """Counted by hand, from the log alone."""
    return await table(
        pool,
        b"""
        select tenant_id,
            count(*) filter (where type = 'IntentSubmitted'),
            count(*) filter (where type = 'IntentSucceeded'),
            count(*) filter (where type = 'IntentFailed'),
            count(*) filter (where type = 'IntentCancelled'),
            count(*) filter (where type = 'SandboxRunFinished')
        from events group by tenant_id order by tenant_id
        """,
    )


async def assert_counted_once(pool: AsyncConnectionPool) -> None:
    assert [row[:6] for row in await table(pool, USAGE)] == await expected_usage(pool)


@pytest.mark.parametrize("n", range(1, 9))
async def test_a_lost_connection_between_any_two_statements_changes_nothing(
    pool: AsyncConnectionPool, database: Database, n: int
) -> None:
    # One tenant: a batch is the use, the marks, and the positions three times over, per trigger.
    histories = Histories.over(pool)
    for _ in range(3):
        await histories.succeeded()
    with psycopg.connect(database.admin_url) as owner:
        owner.execute(KILL_AT.replace("{n}", str(n)).encode())
    runner = Runner(pool, UsageDaily(), page=8)
    failures = 0
    while True:
        try:
            if await runner.run_until_caught_up() == 0:
                break
        except psycopg.OperationalError:
            failures += 1
    assert failures == 1
    await assert_counted_once(pool)


RUN_SLOWLY = """
import asyncio, sys
from domain.database.pool import open_pool
from domain.eventlog.models import InlineWrite
from domain.projections.following.runner import Runner
from domain.projections.following.usage_daily import UsageDaily

class Slow(UsageDaily):
    def writes(self, changes):
        return [*super().writes(changes), InlineWrite(b"select pg_sleep(0.05)", {})]

async def main():
    pool = await open_pool(sys.argv[1], min_size=1, max_size=3, application_name="doomed")
    print("running", flush=True)
    await Runner(pool, Slow(), page=5).run_until_caught_up()

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [0.02, 0.12, 0.33])
async def test_a_killed_process_changes_nothing(
    pool: AsyncConnectionPool, database: Database, after: float
) -> None:
    await Histories.over(pool).mixture(8)
    doomed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN_SLOWLY, database.url), stdout=asyncio.subprocess.PIPE
    )
    assert doomed.stdout is not None
    assert await doomed.stdout.readline() == b"running\n"
    await asyncio.sleep(after)  # the moment of the crash is what the test varies
    doomed.kill()
    assert await doomed.wait() == -signal.SIGKILL
    runner = Runner(pool, UsageDaily())
    async with asyncio.timeout(90):
        while not await caught_up(pool):
            await runner.run_until_caught_up()
            await asyncio.sleep(0.1)  # what the process held may not be free yet
    await assert_counted_once(pool)


async def caught_up(pool: AsyncConnectionPool) -> bool:
    status = {status.name: status for status in await Projections(pool).status()}
    return status["usage_daily"].lag_events == 0


async def test_many_runners_at_once_count_everything_once(pool: AsyncConnectionPool) -> None:
    histories = Histories.over(pool)
    done = asyncio.Event()

    async def keep_running() -> None:
        runner = Runner(pool, UsageDaily(), page=3)
        while not done.is_set():
            await runner.run_until_caught_up()

    runners = [asyncio.create_task(keep_running()) for _ in range(4)]
    await asyncio.gather(*(histories.mixture(2) for _ in range(4)))
    done.set()
    await asyncio.gather(*runners)
    await run(pool, UsageDaily())
    await assert_counted_once(pool)


async def test_a_run_ends_in_time_and_the_next_one_goes_on(pool: AsyncConnectionPool) -> None:
    await Histories.over(pool).mixture(4)
    runner = Runner(pool, Sleepy(), page=4)
    first = await runner.run_until_caught_up(seconds=2)
    assert 0 < first <= 4 * 4, "no more batches than can begin within the time"
    await run(pool, UsageDaily())
    await assert_counted_once(pool)


class Sleepy(UsageDaily):
    def writes(self, changes: Sequence[UsageChange]) -> Sequence[InlineWrite]:
        return [*super().writes(changes), InlineWrite(b"select pg_sleep(0.6)", {})]


@dataclass
class Picky(UsageDaily):
    """Cannot take the end of one intent, until it is fixed."""

    intent_id: UUID
    error: Exception | None

    def fold(self, event: StreamEvent) -> UsageChange | None:
        mine = event.record.stream_id == stream_of(self.intent_id)
        if self.error and mine and event.record.type == "SandboxRunFinished":
            raise self.error
        return super().fold(event)


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("odd"), TypeError("odd")])
async def test_a_poison_event_parks_its_stream_and_no_other(
    pool: AsyncConnectionPool, error: Exception
) -> None:
    histories = Histories.over(pool)
    poisoned = await histories.succeeded()
    healthy = [await histories.succeeded() for _ in range(3)]
    await Runner(pool, Picky(poisoned, error), page=4).run_until_caught_up()
    [parked] = await parked_streams(pool, "usage_daily")
    assert (parked.stream_id, parked.from_version) == (stream_of(poisoned), 4)
    assert parked.error.startswith(type(error).__name__)
    assert "odd" in parked.error
    [row] = await table(pool, USAGE)
    assert row[1:3] == (1 + len(healthy), len(healthy)), "only what came before the poison"


async def test_a_parked_stream_resumes_after_the_fix_with_what_it_missed(
    pool: AsyncConnectionPool,
) -> None:
    histories = Histories.over(pool)
    poisoned = await histories.succeeded()
    picky = Picky(poisoned, ValueError("odd"))
    runner = Runner(pool, picky)
    await runner.run_until_caught_up()
    picky.error = None
    await runner.run_until_caught_up()
    assert len(await parked_streams(pool)) == 1, "parked until an operator resumes it"
    assert await runner.resume(stream_of(poisoned)) is None
    assert await parked_streams(pool) == []
    await histories.succeeded()
    await runner.run_until_caught_up()
    await assert_counted_once(pool)


async def test_a_stream_that_fails_again_stays_parked_with_the_new_error(
    pool: AsyncConnectionPool,
) -> None:
    poisoned = await Histories.over(pool).succeeded()
    picky = Picky(poisoned, ValueError("odd"))
    runner = Runner(pool, picky)
    await runner.run_until_caught_up()
    picky.error = ValueError("odder")
    still = await runner.resume(stream_of(poisoned))
    assert isinstance(still, ParkedStream)
    assert "odder" in still.error
    assert [parked.error for parked in await parked_streams(pool)] == [still.error]
    [row] = await table(pool, USAGE)
    assert row[1:3] == (1, 0)


async def test_events_of_a_parked_stream_are_neither_lost_nor_counted_twice_by_resuming_early(
    pool: AsyncConnectionPool,
) -> None:
    # The stream goes on while it is parked, and resuming takes events the runner has yet to read.
    histories = Histories.over(pool)
    poisoned = await histories.cancelled()
    await Runner(pool, Refusing()).run_until_caught_up()
    await histories.run_ends(poisoned, RunOutcome(verdict="succeeded", usage={"wall_ms": 1}))
    runner = Runner(pool, UsageDaily())
    assert await runner.resume(stream_of(poisoned)) is None
    await runner.run_until_caught_up()
    await assert_counted_once(pool)


class Refusing(UsageDaily):
    """Cannot take anything."""

    def fold(self, event: StreamEvent) -> UsageChange | None:
        raise ValueError(f"not {event.record.type}")


class Unstorable(UsageDaily):
    """Lets an amount through that the database refuses."""

    def fold(self, event: StreamEvent) -> UsageChange | None:
        change = super().fold(event)
        if change is not None and event.record.tenant_id == "huge":
            return UsageChange(change.tenant_id, change.day, {"tokens": 2**62})
        return change


async def test_what_only_the_database_refuses_parks_the_stream_too(
    pool: AsyncConnectionPool,
) -> None:
    histories = Histories.over(pool)
    await histories.succeeded()
    huge = await histories.succeeded("huge")  # 2^62 twice overflows
    await histories.succeeded()
    await run(pool, Unstorable())
    [parked] = await parked_streams(pool)
    assert parked.stream_id == stream_of(huge)
    assert parked.error == "NumericValueOutOfRange: bigint out of range"
    acme, _ = await table(pool, USAGE)
    assert acme[:3] == ("acme", 2, 2)


async def test_an_error_tells_no_personal_content(pool: AsyncConnectionPool) -> None:
    secret = "my name is Ada"
    async with pool.connection() as connection:
        await connection.execute(
            b"""select append_many('intent-x', 'acme', 0, gen_random_uuid(), '{}',
            array[gen_random_uuid()], array['IntentSubmitted'], array[1::smallint],
            array[json_build_object('content', json_build_object('text', %s::text, 'x', 1))::text])
            """,
            [secret],
        )
    await run(pool, UsageDaily())
    [parked] = await parked_streams(pool)
    assert parked.error.startswith("UnreadableEvent: ")
    assert "$.content" in parked.error, "it names what is wrong"
    assert secret not in parked.error


async def test_tables_of_another_version_are_left_alone_until_they_are_rebuilt(
    pool: AsyncConnectionPool, database: Database
) -> None:
    await Histories.over(pool).succeeded()
    with psycopg.connect(database.admin_url) as owner:
        owner.execute("update projections set version = 7 where name = 'usage_daily'")
    with pytest.raises(ProjectionOutdated, match="qlp projections rebuild usage_daily"):
        await run(pool, UsageDaily())
    projections = Projections(pool)
    assert await projections.run_until_caught_up() == 5, "the others go on"
    [problem] = [status.problem for status in await projections.status() if status.problem]
    assert "version 7" in problem


async def test_the_lag_is_told_in_events_and_seconds(
    pool: AsyncConnectionPool,
) -> None:
    await Histories.over(pool).succeeded()
    projections = Projections(pool)
    status = {status.name: status for status in await projections.status()}
    assert {s.name: s.lag_events for s in status.values()} == {
        "intent_states": 0,
        "usage_daily": 5,
        "error_patterns": 5,
    }
    assert status["usage_daily"].lag_seconds > 0
    await projections.run_until_caught_up()
    assert [(s.lag_events, s.lag_seconds) for s in await projections.status()] == [(0, 0.0)] * 3
