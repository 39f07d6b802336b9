"""What tenants used per day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.eventlog.intent_streams import typed
from domain.eventlog.models import RecordedEvent
from domain.intents.commands import RejectPlan
from domain.intents.event_parts import FailureCause, ModelCall, RunArtifact, RunOutcome
from domain.intents.events import IntentSucceeded, SandboxRunFinished
from domain.projections.following.contract import StreamEvent
from domain.projections.following.runner import Runner
from domain.projections.following.usage_daily import LATENCY_BOUNDS_MS, UsageDaily, bucket_of
from tests.support.intents.histories import AT, TRACE, USAGE, Histories, run, table
from tests.support.postgres import Database, everything


async def test_every_outcome_is_counted_once_for_its_tenant(pool: AsyncConnectionPool) -> None:
    histories = Histories.over(pool)
    for _ in range(3):
        await histories.succeeded("acme", stdout="é\n")
    await histories.exited("acme")
    await histories.cancelled("acme")
    await histories.submitted("acme")
    await histories.unplannable("no model", "other")
    await run(pool, UsageDaily())
    [acme, other] = await table(pool, USAGE)
    assert acme[:-1] == ("acme", 6, 3, 1, 1, 4, 3 * 40 + 10, 3 * 25 + 5, 3 * 3 + 2, 0)
    assert other[:-1] == ("other", 1, 0, 1, 0, 0, 0, 0, 0, 0)
    histograms: list[Any] = [acme[-1], other[-1]]
    assert [sum(histogram) for histogram in histograms] == [5, 1], "one latency for each end"


async def test_a_run_that_ends_after_its_intent_was_cancelled_is_still_paid_for(
    pool: AsyncConnectionPool,
) -> None:
    histories = Histories.over(pool)
    intent_id = await histories.cancelled()
    left = tuple(RunArtifact(name=name, size=5, sha256="0" * 64) for name in "ab")
    usage = {"wall_ms": 7}
    late = RunOutcome(verdict="succeeded", stdout="late", usage=usage, artifacts=left)
    await histories.run_ends(intent_id, late)
    await run(pool, UsageDaily())
    [row] = await table(pool, USAGE)
    assert row[1:9] == (1, 0, 0, 1, 1, 7, 0, 4)
    assert await table(pool, b"select artifact_bytes from usage_daily") == [(10,)]


async def test_events_that_come_again_count_once(pool: AsyncConnectionPool) -> None:
    histories = Histories.over(pool)
    await histories.mixture()
    runner = Runner(pool, UsageDaily(), page=7)
    assert await runner.run_until_caught_up() > 0
    once = await table(pool, USAGE)
    await table(pool, b"update followers set positions = default returning 1")
    await histories.succeeded("tenant-0")
    await runner.run_until_caught_up()
    again = await table(pool, USAGE)
    assert again[1:] == once[1:]
    assert again[0][2] == once[0][2] + 1


async def test_the_size_of_batches_does_not_show(
    pool: AsyncConnectionPool, database: Database
) -> None:
    await Histories.over(pool).mixture(3)
    results = []
    for page in (1, 2, 1000):
        with psycopg.connect(database.admin_url) as owner:
            owner.execute("truncate usage_daily, usage_daily_streams")
            owner.execute("delete from followers")
        await run(pool, UsageDaily(), page)
        results.append(await table(pool, USAGE))
    assert results[0] == results[1] == results[2]


def recorded(at: datetime) -> RecordedEvent:
    return RecordedEvent(uuid4(), f"intent-{uuid4()}", 5, "x", 1, "acme", uuid4(), at, "{}", "{}")


def test_days_are_those_of_utc_and_an_end_counts_on_its_own_day() -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    event = IntentSucceeded(at=midnight, run_id=uuid4())
    started = midnight - timedelta(seconds=3)
    change = UsageDaily().fold(StreamEvent(recorded(midnight), event, started))
    assert change is not None
    assert (change.day, change.amounts, change.latency_ms) == (
        midnight.date(),
        {"succeeded": 1},
        3000.0,
    )


@pytest.mark.parametrize("wall_ms", [-1, 1e300, 2**62])
def test_an_absurd_measurement_is_refused_by_name(wall_ms: float) -> None:
    outcome = RunOutcome(verdict="succeeded", usage={"wall_ms": wall_ms})
    at = datetime(2026, 3, 2, tzinfo=UTC)
    event = SandboxRunFinished(at=at, run_id=uuid4(), outcome=outcome)
    with pytest.raises(ValueError, match="wall_ms"):
        UsageDaily().fold(StreamEvent(recorded(at), event, at))


def test_buckets_hold_what_lies_between_their_bounds() -> None:
    assert bucket_of(0) == bucket_of(1) == 0
    for index, bound in enumerate(LATENCY_BOUNDS_MS):
        assert bucket_of(bound) == index
        assert bucket_of(bound * 1.0001) == index + 1
    assert bucket_of(1e12) == len(LATENCY_BOUNDS_MS)


async def test_what_is_recorded_reads_back_as_it_is_typed(pool: AsyncConnectionPool) -> None:
    histories = Histories.over(pool)
    await histories.succeeded()
    runner = Runner(pool, UsageDaily())
    records = await everything(runner._log)
    changes = [UsageDaily().fold(StreamEvent(r, typed(r), records[0].recorded_at)) for r in records]
    assert [change.amounts for change in changes if change] == [
        {"submitted": 1},
        {"runs": 1, "sandbox_ms": 40, "cpu_ms": 25, "output_bytes": 2, "artifact_bytes": 0},
        {"succeeded": 1},
    ]


async def test_what_language_models_take_is_counted_even_where_no_plan_comes_of_it(
    pool: AsyncConnectionPool,
) -> None:
    histories = Histories.over(pool)
    call = ModelCall(
        purpose="plan",
        outcome="refused",
        model="m",
        prompt="plan@1",
        input_tokens=700,
        output_tokens=30,
        cost_microusd=12,
    )
    intent_id = await histories.submitted()
    away = FailureCause(code="model_refused", message="It would not.")
    reject = RejectPlan(away, AT, (call, call))
    await histories.handler.handle(intent_id, reject, traceparent=TRACE)
    await run(pool, UsageDaily())
    metered = b"select tokens, model_calls, model_cost_microusd, failed from usage_daily"
    assert await table(pool, metered) == [(1460, 2, 24, 1)]
