"""Programs that failed, repaired by a language model."""

from __future__ import annotations

from psycopg_pool import AsyncConnectionPool

from domain.application.planning import Busy, NoPlan, Repaired
from domain.intents.content import Program
from domain.intents.event_parts import Author, RunArtifact, RunOutcome
from domain.intents.events import IntentPlanned
from domain.intents.struct import checked
from domain.planning.budgets import Budget, TokenBudgets
from domain.planning.planner import Planner
from tests.support.intents.planning import CALL, TODAY, failed, spent
from tests.support.intents.specification import NOW, PROGRAM
from tests.support.openai.chat import MODEL, OpenAIServer, repaired


class TestRepair:
    async def test_what_happened_is_told(
        self, planner: Planner, openai_server: OpenAIServer, pool: AsyncConnectionPool
    ) -> None:
        stderr = "x" * 10_000 + "ZeroDivisionError"
        outcome = RunOutcome(verdict="exited", exit_code=1, stdout="so far", stderr=stderr)
        state = failed(outcome)
        openai_server.script(repaired("print(43)"))
        plan = await planner.repair(state, state.runs[0], 1)
        assert isinstance(plan, Repaired)
        assert plan.program.files[0].content == "print(43)"
        assert plan.author == Author(model=MODEL, prompt="repair@1")
        assert plan.explanation == "Mended."
        told = openai_server.asked[0].data
        assert told["request"] == "six by seven"
        assert told["program"]["files"] == [{"path": "main.py", "content": "print(6 * 7)"}]
        assert (told["run"]["verdict"], told["run"]["exit_code"]) == ("exited", 1)
        assert told["run"]["stderr"].endswith("ZeroDivisionError")
        assert len(told["run"]["stderr"]) < 4_100
        assert [call.prompt for call in plan.calls] == ["repair@1"]
        assert await spent(pool, plan.writes) == Budget(None, CALL, 0)

    async def test_missing_files_are_named(
        self, planner: Planner, openai_server: OpenAIServer
    ) -> None:
        planned = IntentPlanned(
            at=NOW,
            source="generated",
            program=checked(Program, PROGRAM),
            author=TODAY,
            expected_artifacts=("plot.png", "data.csv"),
            repairs=2,
        )
        left = (RunArtifact(name="data.csv", size=1, sha256="0" * 64),)
        state = failed(RunOutcome(verdict="succeeded", exit_code=0, artifacts=left), planned)
        openai_server.script(repaired("print(43)"))
        assert isinstance(await planner.repair(state, state.runs[0], 1), Repaired)
        assert openai_server.asked[0].data["run"]["missing"] == ["plot.png"]
        assert openai_server.asked[0].data["run"]["left"] == ["data.csv"]

    async def test_the_budget_holds_for_repairs_too(
        self, planner: Planner, openai_server: OpenAIServer, pool: AsyncConnectionPool
    ) -> None:
        await TokenBudgets(pool, 0).set("acme", 100)
        state = failed(RunOutcome(verdict="exited", exit_code=1))
        plan = await planner.repair(state, state.runs[0], 1)
        assert isinstance(plan, NoPlan)
        assert plan.cause.code == "token_budget_exhausted"
        assert openai_server.asked == []

    async def test_a_repair_in_progress_is_not_begun_by_another_worker(
        self, planner: Planner, openai_server: OpenAIServer
    ) -> None:
        first = failed(RunOutcome(verdict="exited", exit_code=1))
        openai_server.script(repaired("print(1)"), repaired("print(2)"))
        run = first.runs[0]
        assert isinstance(await planner.repair(first, run, 1), Repaired)
        assert await planner.repair(first, run, 1) == Busy()  # not recorded yet
        assert isinstance(await planner.repair(first, run, 2), Repaired)
