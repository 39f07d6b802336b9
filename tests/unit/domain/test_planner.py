from __future__ import annotations

from uuid import uuid4

from domain.intents.content import IntentContent, Program
from domain.intents.state import IntentState, fold
from domain.planning.planner import NoPlan, Plan, Planner, Solved
from tests.unit.intents.specification import CONTENT, PROGRAM, SENTENCE, submitted


class SolvedInMemory:
    def __init__(self, solved: dict[tuple[str, str], Solved]) -> None:
        self.solved = solved

    async def find(self, tenant_id: str, text: str) -> Solved | None:
        return self.solved.get((tenant_id, text))


def intent(content: IntentContent) -> IntentState:
    state = fold([submitted(content)])
    assert state is not None
    return state


async def test_a_submitted_program_is_the_plan() -> None:
    assert await Planner(SolvedInMemory({})).plan(intent(CONTENT)) == Plan("submitted")


async def test_an_exact_repeat_of_a_solved_sentence_is_reused() -> None:
    solved = Solved(uuid4(), Program.model_validate(PROGRAM))
    planner = Planner(SolvedInMemory({("acme", "six by seven"): solved}))
    plan = await planner.plan(intent(SENTENCE))
    assert plan == Plan("reused", solved.program, solved.intent_id)


async def test_another_tenants_solution_is_not_reused() -> None:
    solved = Solved(uuid4(), Program.model_validate(PROGRAM))
    planner = Planner(SolvedInMemory({("other", "six by seven"): solved}))
    assert isinstance(await planner.plan(intent(SENTENCE)), NoPlan)


async def test_without_a_program_the_failure_says_what_would_help() -> None:
    plan = await Planner(SolvedInMemory({})).plan(intent(SENTENCE))
    assert isinstance(plan, NoPlan)
    assert plan.cause.code == "planner_not_configured"
    assert "program" in plan.cause.message
