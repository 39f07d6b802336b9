"""Has a language model write, repair and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid5

from domain.application.planning import Busy, NoPlan, Plan, Postponed, Repaired
from domain.eventlog.intent_streams import stream_of
from domain.intents.event_parts import Author
from domain.intents.state import IntentState, Run
from domain.planning.attempt import Attempt, Unanswered
from domain.planning.budgets import Reservation, TokenBudgets
from domain.planning.language_model import LanguageModel
from domain.planning.prompts import (
    PLAN,
    REPAIR,
    compare_request,
    plan_request,
    repair_request,
)
from domain.planning.solved import Solved


class Writer:
    """A language model that is charged to the budgets of the tenants it works for.

    Attributes:
        repairs: how many repairs a plan's programs may have in all.
    """

    def __init__(self, model: LanguageModel, budgets: TokenBudgets, repairs: int) -> None:
        self._model = model
        self._budgets = budgets
        self.repairs = repairs

    def is_current(self, author: Author | None) -> bool:
        """Whether ``author`` is a client, or this model with one of today's prompts."""
        today = (self._model.author(PLAN), self._model.author(REPAIR))
        return author is None or author in today

    def attempt(self, state: IntentState, number: int) -> Attempt:
        """The calls of the ``number``-th try to plan for an intent."""
        return self._attempt(state, state.id, f"plan-{number}")

    async def same(self, attempt: Attempt, solved: str, asked: str) -> bool:
        """Whether the model is sure that two sentences ask for the same; any failure is a no.

        Raises:
            Unanswered: another worker is making this call.
        """
        try:
            return await attempt.ask(compare_request(solved, asked))
        except Unanswered as unanswered:
            if isinstance(unanswered.result, Busy):
                raise
            return False

    async def write(
        self, attempt: Attempt, state: IntentState, examples: Sequence[Solved]
    ) -> Plan | NoPlan | Postponed | Busy:
        """A new plan."""
        try:
            steps, artifacts, explanation = await attempt.ask(plan_request(state, examples))
        except Unanswered as unanswered:
            return unanswered.result
        plan = Plan(
            "generated",
            explanation=explanation,
            author=self._model.author(PLAN),
            examples=tuple(each.intent_id for each in examples),
            expected_artifacts=artifacts,
            repairs=self.repairs,
            calls=attempt.calls,
            writes=attempt.writes,
        )
        if len(steps) == 1:
            return replace(plan, program=steps[0].program)
        return replace(plan, steps=steps)

    async def repair(
        self, state: IntentState, failed: Run, number: int
    ) -> Repaired | NoPlan | Postponed | Busy:
        """A new program for the step whose run ``failed``."""
        attempt = self._attempt(state, failed.run_id, f"repair-{number}")
        try:
            program, explanation = await attempt.ask(repair_request(state, failed))
        except Unanswered as unanswered:
            return unanswered.result
        author = self._model.author(REPAIR)
        return Repaired(program, explanation, author, attempt.calls, attempt.writes)

    def _attempt(self, state: IntentState, about: UUID, name: str) -> Attempt:
        reservation = Reservation(
            uuid5(about, name), state.tenant_id, stream_of(state.id), state.version
        )
        return Attempt(self._model, self._budgets, reservation)
