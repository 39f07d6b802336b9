"""Ready-made intents and solved ones, for tests of planning."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

from psycopg_pool import AsyncConnectionPool

from domain.intents.content import IntentContent, Program
from domain.intents.event_parts import Author, PlannedStep, RunOutcome
from domain.intents.events import IntentPlanned, SandboxRunFinished, SandboxRunRequested
from domain.intents.evolve import evolve, fold
from domain.intents.run_decisions import run_id_of
from domain.intents.state import IntentState
from domain.intents.struct import checked
from domain.planning.budgets import Budget, TokenBudgets
from domain.planning.planner import Planner
from domain.planning.solved import Near, Solved
from tests.support.intents.specification import NOW, PROGRAM, submitted
from tests.support.openai.chat import MODEL

TODAY = Author(model=MODEL, prompt="plan@1")
OLD = Author(model="gpt-old", prompt="plan@1")
YES = {"reason": "They ask the same.", "equivalent": True}
NO = {"reason": "Who knows.", "equivalent": False}
#: Tokens that the server says a call has taken.
CALL = 1_000

Planners = Callable[..., Awaitable[Planner]]


class Remembered:
    """Solved intents, and how near they are."""

    def __init__(self) -> None:
        self.near: list[Near] = []
        self.exact: Solved | None = None

    async def repeat(self, tenant_id: str, text: str) -> Solved | None:
        return self.exact

    async def nearest(self, tenant_id: str, text: str, limit: int, without: UUID) -> Sequence[Near]:
        return self.near[:limit]


def solved(text: str, code: str = "print(42)", author: Author | None = TODAY) -> Solved:
    described = {"language": "python", "files": {"main.py": code}}
    steps = (PlannedStep(name="main", program=checked(Program, described)),)
    return Solved(uuid4(), text, steps, author)


def intent(text: str = "six by seven", reuse: str = "exact") -> IntentState:
    content = checked(IntentContent, {"text": text, "planning": {"reuse": reuse}})
    state = fold([submitted(content)])
    assert state is not None
    return state


def failed(outcome: RunOutcome, planned: IntentPlanned | None = None) -> IntentState:
    """An intent whose one run ended like this."""
    run_id = run_id_of(intent().id, 1)
    plan = planned or IntentPlanned(
        at=NOW, source="generated", program=checked(Program, PROGRAM), author=TODAY, repairs=2
    )
    state = intent()
    for event in (
        plan,
        SandboxRunRequested(at=NOW, run_id=run_id, attempt=1),
        SandboxRunFinished(at=NOW, run_id=run_id, outcome=outcome),
    ):
        state = evolve(state, event)
    return state


async def spent(pool: AsyncConnectionPool, writes: Sequence[Any]) -> Budget:
    """The tenant's figures after the writes of a result."""
    if writes:
        async with pool.connection() as connection:
            for write in writes:
                await connection.execute(write.statement, write.params)
    return await TokenBudgets(pool, 0).show("acme")
