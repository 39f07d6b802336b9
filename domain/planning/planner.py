"""Finds a program for an intent: submitted, reused or written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg_pool import AsyncConnectionPool

from domain.application.planning import Busy, NoPlan, Plan, Postponed, Repaired
from domain.intents.state import IntentState, Run
from domain.models.settings import ModelSettings
from domain.planning.attempt import Attempt, Unanswered
from domain.planning.budgets import TokenBudgets
from domain.planning.language_model import LanguageModel
from domain.planning.prompts import MAX_EXAMPLES, fits
from domain.planning.remedies import NOT_CONFIGURED
from domain.planning.solved import Near, Solved, SolvedIntents
from domain.planning.wording import difference
from domain.planning.writer import Writer

if TYPE_CHECKING:
    from openai import AsyncOpenAI

#: How many neighbours are looked at, for examples and for reuse.
_NEIGHBOURS = 6


class Planner:
    """Takes the submitted program, else a solved intent's, else has one written.

    By default it reuses only a program that solved exactly the same words for the same tenant and
    was made for them, by a client or by the current model with a current prompt: similarity cannot
    tell a paraphrase from its opposite ("transfer from Alice to Bob" against the reverse has a
    cosine of .9985). An intent that allows more gets the plan of a similar one if no word makes a
    difference and the model is certain; any doubt costs a new program, never a wrong one.
    """

    def __init__(
        self, solved: SolvedIntents, writer: Writer | None, reuse_similarity: float
    ) -> None:
        """Build it from its parts.

        Args:
            solved: finds intents that were solved before.
            writer: None where no language model is configured.
            reuse_similarity: cosine similarity from which reuse is considered where an intent
                allows it.
        """
        self._solved = solved
        self._writer = writer
        self._reuse_similarity = reuse_similarity

    async def plan(self, state: IntentState, attempt: int) -> Plan | NoPlan | Postponed | Busy:
        """The plan for an intent; without a language model it costs one query."""
        if (found := await self.plan_at_once(state)) is not None:
            return found
        if self._writer is None:
            return NoPlan(NOT_CONFIGURED)
        text, reuse = state.content.text or "", state.content.planning.reuse
        near = await self._solved.nearest(state.tenant_id, text, _NEIGHBOURS, state.id)
        calls = self._writer.attempt(state, attempt)
        if reuse == "similar":
            candidate = self._candidate(text, near)
            try:
                if candidate and await self._writer.same(calls, candidate.text, text):
                    return self._reused(candidate, calls)
            except Unanswered as unanswered:
                return unanswered.result
        examples = [each.solved for each in near if fits(each.solved)][:MAX_EXAMPLES]
        return await self._writer.write(calls, state, examples)

    async def plan_at_once(self, state: IntentState) -> Plan | None:
        """The submitted program, or that which solved exactly these words; None without either."""
        if state.content.program is not None:
            return Plan("submitted")
        if state.content.planning.reuse == "never":
            return None
        solved = await self._solved.repeat(state.tenant_id, state.content.text or "")
        if solved is not None and self._may_be_reused(solved):
            return self._reused(solved)
        return None

    async def repair(
        self, state: IntentState, failed: Run, attempt: int
    ) -> Repaired | NoPlan | Postponed | Busy:
        """A new program for the step whose run ``failed``."""
        if self._writer is None:
            return NoPlan(NOT_CONFIGURED)
        return await self._writer.repair(state, failed, attempt)

    def _may_be_reused(self, solved: Solved) -> bool:
        return self._writer is None or self._writer.is_current(solved.author)

    def _candidate(self, text: str, near: Sequence[Near]) -> Solved | None:
        """The most similar one that may be reused and differs in no word that matters."""
        for each in near:
            if each.similarity < self._reuse_similarity:
                return None
            solved = each.solved
            if self._may_be_reused(solved) and difference(solved.text, text) is None:
                return solved
        return None

    def _reused(self, solved: Solved, calls: Attempt | None = None) -> Plan:
        """The plan of a solved intent; if a model wrote it, a model may also repair it."""
        one = solved.steps[0].program if len(solved.steps) == 1 else None
        repairable = self._writer is not None and solved.author is not None
        return Plan(
            "reused",
            one,
            solved.intent_id,
            steps=() if one is not None else solved.steps,
            explanation=solved.explanation,
            author=solved.author,
            expected_artifacts=solved.expected_artifacts,
            repairs=self._writer.repairs if repairable and self._writer else 0,
            calls=calls.calls if calls is not None else (),
            writes=calls.writes if calls is not None else (),
        )


def make_planner(
    settings: ModelSettings,
    client: AsyncOpenAI | None,
    pool: AsyncConnectionPool,
    solved: SolvedIntents,
) -> Planner:
    """The planner; without a language model where none is configured."""
    writer = None
    if client is not None and settings.llm_model is not None:
        model = LanguageModel(client, settings.llm_model, settings)
        budgets = TokenBudgets(pool, settings.llm_tokens_per_day)
        writer = Writer(model, budgets, settings.llm_repairs)
    return Planner(solved, writer, settings.reuse_similarity)
