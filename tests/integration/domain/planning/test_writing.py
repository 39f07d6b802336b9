"""Plans that a language model writes: over HTTP, on the tenant's budget."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.application.planning import Busy, NoPlan, Plan, Postponed
from domain.eventlog.intent_streams import stream_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import NewEvent
from domain.intents.evolve import fold
from domain.planning.budgets import Budget, TokenBudgets
from domain.planning.planner import Planner
from domain.planning.solved import Near
from tests.support.intents.planning import (
    CALL,
    TODAY,
    Planners,
    Remembered,
    intent,
    solved,
    spent,
)
from tests.support.intents.specification import SENTENCE, submitted
from tests.support.openai.chat import OpenAIServer, Reply, fault, program, step


class TestWriting:
    async def test_one_step(
        self, planner: Planner, openai_server: OpenAIServer, pool: AsyncConnectionPool
    ) -> None:
        openai_server.script(program("print(6 * 7)"))
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, Plan)
        assert plan.program is not None
        assert plan.program.files[0].content == "print(6 * 7)"
        assert (plan.source, plan.steps, plan.author, plan.repairs) == ("generated", (), TODAY, 2)
        assert [call.prompt for call in plan.calls] == ["plan@1"]
        assert await spent(pool, plan.writes) == Budget(None, CALL, 0)

    async def test_several_steps(self, planner: Planner, openai_server: OpenAIServer) -> None:
        answer = program("")
        answer["steps"] = [step("2", "sum", needs=("load",)), step("1", "load"), step("3", "show")]
        answer["expected_artifacts"] = ["plot.png"]
        openai_server.script(answer)
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, Plan)
        assert plan.program is None
        assert [(each.name, each.needs) for each in plan.steps] == [
            ("load", ()),
            ("sum", ("load",)),
            ("show", ()),
        ]
        assert plan.expected_artifacts == ("plot.png",)

    async def test_a_wrong_answer_may_be_corrected_once(
        self, planner: Planner, openai_server: OpenAIServer, pool: AsyncConnectionPool
    ) -> None:
        openai_server.script(program("", needs=["gone"]), program("print(1)"))
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, Plan)
        assert [call.outcome for call in plan.calls] == ["invalid", "answered"]
        assert "needs 'gone'" in openai_server.asked[1].body["messages"][3]["content"]
        assert await spent(pool, plan.writes) == Budget(None, 2 * CALL, 0)

    @pytest.mark.parametrize(
        "hostile",
        [
            "I refuse to answer in JSON",
            "[" * 200_000,
            json.dumps({"steps": "x" * 400_000}),
            {**program(""), "steps": [step("", f"s{n}") for n in range(10_000)]},
            {**program(""), "steps": [1, None, [], "main"]},
            {**program(""), "limits": {"wall_seconds": 300}},
            {**program(""), "tenant_id": "other"},
            program("", files=[{"path": "../../etc/cron.d/x", "content": "* * * * *"}]),
            program("", files=[{"path": "main.py", "content": "\x00"}]),
            program("", language="bash -c"),
            program("", environment={"LD_PRELOAD": "/tmp/x.so"}),
            program("", name="../inputs"),
            program("", stdin=5),
            {**program("print(1)"), "expected_artifacts": ["../../secret"]},
        ],
    )
    async def test_hostile_answers_never_become_a_plan(
        self,
        planner: Planner,
        openai_server: OpenAIServer,
        pool: AsyncConnectionPool,
        hostile: Any,
    ) -> None:
        openai_server.script(hostile, hostile)
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, NoPlan)
        assert plan.cause.code == "model_answer_invalid"
        assert len(plan.cause.message) < 1_000
        assert "\x00" not in plan.cause.message
        assert len(plan.calls) == 2
        assert (await spent(pool, plan.writes)).reserved == 0

    @pytest.mark.parametrize(
        ("scripted", "code", "says"),
        [
            (Reply("", refusal="I must not."), "model_refused", "I must not."),
            (Reply("{", finish_reason="length"), "model_answer_truncated", "QLP_LLM_OUTPUT_TOKENS"),
            (fault(401), "model_rejected", "OPENAI_API_KEY"),
            (fault(403), "model_rejected", "role"),
            (fault(404, "no such model"), "model_rejected", "QLP_LLM_MODEL"),
            (fault(400, "response_format unsupported"), "model_rejected", "json_schema"),
        ],
    )
    async def test_a_failure_that_waiting_does_not_cure_is_final_at_once(
        self,
        planner: Planner,
        openai_server: OpenAIServer,
        scripted: Reply,
        code: str,
        says: str,
    ) -> None:
        openai_server.script(scripted)
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, NoPlan)
        assert plan.cause.code == code
        assert says in plan.cause.message
        assert len(plan.calls) == len(openai_server.asked) == 1

    @pytest.mark.parametrize(
        ("scripted", "code", "seconds"),
        [
            (fault(429, retry_after="42"), "model_rate_limited", 42),
            (fault(500), "model_unavailable", None),
            (Reply(program(""), cut=30), "model_unavailable", None),
            (Reply(program(""), stall=20), "model_timed_out", None),
        ],
    )
    async def test_what_passes_is_tried_again_later(
        self,
        planners: Planners,
        openai_server: OpenAIServer,
        pool: AsyncConnectionPool,
        scripted: Reply,
        code: str,
        seconds: float | None,
    ) -> None:
        planner = await planners(QLP_LLM_TIMEOUT_SECONDS=1 if scripted.stall else 60)
        openai_server.script(scripted, program("print(1)"))
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, Postponed)
        assert plan.cause.code == code
        waited = plan.retry_after.total_seconds() if plan.retry_after else None
        assert waited == seconds
        assert (await spent(pool, plan.writes)).reserved == 0
        planner = await planners()
        assert isinstance(await planner.plan(intent(), 2), Plan)

    async def test_while_one_worker_asks_another_does_not(
        self, planner: Planner, openai_server: OpenAIServer
    ) -> None:
        openai_server.script(Reply(program("print(1)"), seconds=1))
        first = asyncio.create_task(planner.plan(intent(), 1))
        await openai_server.arrived.wait()
        assert await planner.plan(intent(), 1) == Busy()
        assert isinstance(await first, Plan)
        assert len(openai_server.asked) == 1


class TestExamples:
    async def test_at_most_three_that_are_small_enough(
        self, planner: Planner, openai_server: OpenAIServer, memory: Remembered
    ) -> None:
        big = solved("big", "x" * 5_000)
        small = [solved(f"small {n}") for n in range(5)]
        memory.near = [Near(each, 0.5) for each in (big, *small)]
        openai_server.script(program("print(1)"))
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, Plan)
        assert plan.examples == tuple(each.intent_id for each in small[:3])
        shown = openai_server.asked[0].data["examples"]
        assert [each["request"] for each in shown] == ["small 0", "small 1", "small 2"]
        assert shown[0]["steps"][0]["files"] == [{"path": "main.py", "content": "print(42)"}]


class TestBudget:
    async def test_a_tenant_over_its_budget_is_told_when_and_who(
        self, planner: Planner, openai_server: OpenAIServer, pool: AsyncConnectionPool
    ) -> None:
        await TokenBudgets(pool, 0).set("acme", 5_000)
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, NoPlan)
        assert plan.cause.code == "token_budget_exhausted"
        for needed in ("5000", "00:00 UTC", "operator", "program"):
            assert needed in plan.cause.message
        assert (openai_server.asked, plan.calls, list(plan.writes)) == ([], (), [])

    async def test_nothing_is_asked_for_an_intent_that_has_moved_on_since(
        self, planner: Planner, openai_server: OpenAIServer, pool: AsyncConnectionPool
    ) -> None:
        stale = intent()
        moved = [NewEvent(uuid4(), "Any", 1, {"at": "2026-03-01T12:00:00Z"}) for _ in range(2)]
        await EventLog(pool).append(stream_of(stale.id), "acme", 0, uuid4(), moved, {})
        assert isinstance(await planner.plan(stale, 1), Busy)
        assert openai_server.asked == []

    async def test_while_others_may_leave_enough_it_waits(
        self, planner: Planner, openai_server: OpenAIServer, pool: AsyncConnectionPool
    ) -> None:
        await TokenBudgets(pool, 0).set("acme", 20_000)
        openai_server.script(Reply(program("print(1)"), seconds=1), program("print(2)"))
        other = fold([msgspec.structs.replace(submitted(SENTENCE), intent_id=uuid4())])
        assert other is not None
        first = asyncio.create_task(planner.plan(other, 1))
        await openai_server.arrived.wait()
        waits = await planner.plan(intent(), 1)
        assert isinstance(waits, Postponed)
        assert waits.cause.code == "token_budget_exhausted"
        done = await first
        assert isinstance(done, Plan)
        assert await spent(pool, done.writes) == Budget(20_000, CALL, 0)
        assert isinstance(await planner.plan(intent(), 2), Plan)

    async def test_the_second_question_is_on_the_budget_too(
        self, planners: Planners, openai_server: OpenAIServer, pool: AsyncConnectionPool
    ) -> None:
        planner = await planners()
        await TokenBudgets(pool, 0).set("acme", 20_000)
        huge = {"prompt_tokens": 15_000, "completion_tokens": 1}
        openai_server.script(Reply("nonsense", usage=huge))
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, NoPlan)
        assert plan.cause.code == "token_budget_exhausted"
        assert [call.outcome for call in plan.calls] == ["invalid"]
        assert await spent(pool, plan.writes) == Budget(20_000, 15_001, 0)
