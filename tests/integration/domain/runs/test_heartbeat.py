"""A heartbeat costs two queries however many runs it has, and only a token's own run is heard."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from uuid import UUID

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.limits import TenantLimits
from domain.application.handler import CommandHandler
from domain.application.repository import IntentRepository
from domain.contracts.heartbeat import Heartbeat, Order, OutputChunk, RunBeat
from domain.contracts.job import JobLimits
from domain.eventlog.log import EventLog
from domain.intents.commands import CancelIntent, KillRun, RecordPlan, RecordRun, RequestRun
from domain.intents.content import Limits
from domain.intents.event_parts import RunOutcome
from domain.intents.run_decisions import run_id_of
from domain.runs.heartbeat import Heartbeats
from domain.runs.output import RunOutput
from domain.runs.status import RunStatuses
from domain.runs.tokens import RunTokens
from tests.support.intents.histories import TRACE, Histories

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKENS = RunTokens([b"k" * 32])


class Scene:
    """Intents of the tenant acme, and what takes heartbeats."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self.pool = pool
        self.histories = Histories.over(pool)
        self.handler = CommandHandler(IntentRepository(EventLog(pool)), lambda _state: None)
        self.statuses = RunStatuses(pool)
        self.output = RunOutput(pool)
        self.heartbeats = Heartbeats(TOKENS, self.statuses, self.output)

    def beat(
        self, intent_id: UUID, text: str | None = None, attempt: int = 1, tenant: str = "acme"
    ) -> RunBeat:
        run_id = run_id_of(intent_id, attempt)
        token = TOKENS.issue(run_id, intent_id, tenant)
        assert token is not None
        chunks = (OutputChunk(seq=0, stream="stdout", text=text),) if text else ()
        return RunBeat(run_id=run_id, intent_id=intent_id, token=token, output=chunks)

    async def orders(self, *beats: RunBeat) -> list[Order]:
        orders = (await self.heartbeats.take(Heartbeat(host="h", runs=beats))).orders
        return [orders[beat.run_id] for beat in beats]

    async def text(self, intent_id: UUID, attempt: int = 1) -> list[str]:
        return [c.text for c in await self.output.after(run_id_of(intent_id, attempt), -1)]


@pytest.fixture
def scene(pool: AsyncConnectionPool) -> Scene:
    return Scene(pool)


async def test_an_awaited_run_goes_on_and_its_output_is_kept(scene: Scene) -> None:
    intent_id = await scene.histories.running()
    assert await scene.orders(scene.beat(intent_id, "hello")) == [Order.CONTINUE]
    assert await scene.text(intent_id) == ["hello"]


async def test_a_cancelled_run_dies_and_its_last_words_are_kept(scene: Scene) -> None:
    intent_id = await scene.histories.running()
    await scene.handler.handle(intent_id, CancelIntent(None, NOW), traceparent=TRACE)
    assert await scene.orders(scene.beat(intent_id, "late")) == [Order.KILL]
    assert await scene.text(intent_id) == ["late"]


async def test_a_run_that_an_operator_wants_dead_dies(scene: Scene) -> None:
    intent_id = await scene.histories.running()
    kill = KillRun(run_id_of(intent_id, 1), "ops", "why", NOW)
    await scene.handler.handle(intent_id, kill, traceparent=TRACE)
    assert await scene.orders(scene.beat(intent_id)) == [Order.KILL]


async def test_a_run_that_is_over_or_replaced_dies_and_is_not_heard(scene: Scene) -> None:
    finished = await scene.histories.succeeded()
    retried = await scene.histories.running()
    outage = RunOutcome(verdict="infrastructure_error", retryable=True)
    command = RecordRun(run_id_of(retried, 1), outage, NOW)
    await scene.handler.handle(retried, command, traceparent=TRACE)
    beats = (
        scene.beat(finished, "x"),
        scene.beat(retried, "x"),
        scene.beat(retried, "second try", attempt=2),
    )
    assert await scene.orders(*beats) == [Order.KILL, Order.KILL, Order.CONTINUE]
    assert await scene.text(finished) == await scene.text(retried) == []
    assert await scene.text(retried, 2) == ["second try"]


async def test_a_token_for_anything_else_is_refused_and_reported(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = await scene.histories.running(), await scene.histories.running()
    beat = scene.beat(mine, "forged")
    with caplog.at_level(logging.WARNING, logger="qlp.security"):
        wrong = [
            beat.model_copy(update={"token": scene.beat(other).token}),
            beat.model_copy(update={"intent_id": other}),
            beat.model_copy(update={"token": ""}),
        ]
        for each in wrong:
            assert await scene.orders(each) == [Order.REFUSED]
    assert await scene.text(mine) == []
    logged = [json.loads(record.getMessage().partition(" ")[2]) for record in caplog.records]
    assert [each["kind"] for each in logged] == ["failed_authentication"] * 3
    assert beat.token not in caplog.text


async def test_a_token_of_a_tenant_that_does_not_own_the_intent_hears_only_kill(
    scene: Scene,
) -> None:
    intent_id = await scene.histories.running("acme")
    assert await scene.orders(scene.beat(intent_id, "x", tenant="other")) == [Order.KILL]
    assert await scene.text(intent_id) == []


async def test_one_query_tells_the_state_of_all_runs(scene: Scene) -> None:
    intents = [await scene.histories.running() for _ in range(8)]
    asked: list[list[str]] = []

    class Counting(RunStatuses):
        async def of(self, intent_ids):  # type: ignore[no-untyped-def]
            ids = list(intent_ids)
            asked.append(ids)
            return await super().of(ids)

    heartbeats = Heartbeats(TOKENS, Counting(scene.pool), scene.output)
    beats = tuple(scene.beat(each, "x") for each in intents)
    orders = (await heartbeats.take(Heartbeat(host="h", runs=beats))).orders
    assert set(orders.values()) == {Order.CONTINUE}
    assert len(asked) == 1


async def test_a_run_knows_how_much_it_may_leave(scene: Scene) -> None:
    intent_id = await scene.histories.submitted()
    plan = RecordPlan("submitted", None, None, None, NOW)
    limits = TenantLimits(ceilings=Limits(artifact_bytes=123)).resolve(Limits())
    for command in (plan, RequestRun(limits, NOW)):
        await scene.handler.handle(intent_id, command, traceparent=TRACE)
    status = (await scene.statuses.of([intent_id]))[intent_id].latest
    assert status.artifact_bytes == 123
    before = await scene.histories.running()  # recorded without limits, as it once was
    unlimited = (await scene.statuses.of([before]))[before].latest
    assert unlimited.artifact_bytes == JobLimits().artifact_bytes
