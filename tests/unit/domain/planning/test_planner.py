"""Where programs come from if no language model is configured."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from domain.application.planning import NoPlan, Plan
from domain.intents.content import IntentContent, PlanningOptions, Program
from domain.intents.event_parts import Author, PlannedStep
from domain.intents.evolve import fold
from domain.intents.state import IntentState
from domain.intents.struct import checked
from domain.planning.planner import Planner
from domain.planning.solved import Near, Solved
from tests.support.intents.specification import CONTENT, PROGRAM, SENTENCE, submitted


class SolvedInMemory:
    def __init__(self, solved: dict[tuple[str, str], Solved]) -> None:
        self.solved = solved

    async def repeat(self, tenant_id: str, text: str) -> Solved | None:
        return self.solved.get((tenant_id, text))

    async def nearest(self, tenant_id: str, text: str, limit: int, without: UUID) -> Sequence[Near]:
        raise AssertionError("nobody needs neighbours without a language model")


def solved(*names: str, author: Author | None = None) -> Solved:
    program = checked(Program, PROGRAM)
    steps = tuple(PlannedStep(name=name, program=program) for name in names or ("main",))
    return Solved(uuid4(), "six by seven", steps, author, "It multiplies.", ("a.png",))


def planner(found: Solved, tenant: str = "acme") -> Planner:
    return Planner(SolvedInMemory({(tenant, "six by seven"): found}), None, 0.95)


def intent(content: IntentContent) -> IntentState:
    state = fold([submitted(content)])
    assert state is not None
    return state


async def test_a_submitted_program_is_the_plan() -> None:
    assert await planner(solved()).plan(intent(CONTENT), 1) == Plan("submitted")


@pytest.mark.parametrize("author", [None, Author(model="old", prompt="plan@1")])
async def test_an_exact_repeat_of_a_solved_sentence_is_reused(author: Author | None) -> None:
    found = solved(author=author)
    plan = await planner(found).plan(intent(SENTENCE), 1)
    assert isinstance(plan, Plan)
    assert (plan.source, plan.program, plan.reused_from) == (
        *("reused", found.steps[0].program, found.intent_id),
    )
    assert (plan.steps, plan.author, plan.repairs) == ((), author, 0)
    assert (plan.explanation, plan.expected_artifacts) == ("It multiplies.", ("a.png",))


async def test_a_plan_of_several_steps_is_reused_whole() -> None:
    found = solved("load", "sum")
    plan = await planner(found).plan(intent(SENTENCE), 1)
    assert isinstance(plan, Plan)
    assert (plan.program, plan.steps) == (None, found.steps)


@pytest.mark.parametrize(
    ("tenant", "content"),
    [
        ("other", SENTENCE),
        ("acme", IntentContent(text="six by seven", planning=PlanningOptions(reuse="never"))),
        ("acme", IntentContent(text="seven by six", planning=PlanningOptions(reuse="similar"))),
    ],
    ids=["another tenant's solution", "reuse is forbidden", "only similar"],
)
async def test_where_nothing_may_be_reused_the_failure_says_what_to_set(
    tenant: str, content: IntentContent
) -> None:
    plan = await planner(solved(), tenant).plan(intent(content), 1)
    assert isinstance(plan, NoPlan)
    assert plan.cause.code == "planner_not_configured"
    for needed in ("program", "QLP_LLM_MODEL", "OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"):
        assert needed in plan.cause.message
