"""What the step that a state calls for needs before it can be recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.access.limits import LimitsStore
from domain.application.planning import (
    Busy,
    NoPlan,
    Plan,
    PlanningService,
    Postponed,
    Repaired,
)
from domain.eventlog.models import InlineWrite
from domain.intents.commands import (
    Command,
    PostponePlanning,
    RecordPlan,
    RecordRepair,
    RejectPlan,
    RejectRepair,
    RequestRun,
)
from domain.intents.content import Limits
from domain.intents.next_step import PlanStep, RepairStep, RequestRunStep, react
from domain.intents.state import IntentState
from domain.similarity.store import EmbeddingStore

#: A delay is over when less than this is left of it: the message that is scheduled for its end may
#: arrive a moment early by our clock, and no other message follows.
_CLOCKS_DIFFER = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A command that takes a step, and the writes of its transaction."""

    command: Command
    inline: Sequence[InlineWrite] = ()


class Steps:
    """Prepares the one next step of an intent, see `domain.intents.next_step.react`."""

    def __init__(
        self,
        planner: PlanningService,
        embeddings: EmbeddingStore,
        limits: LimitsStore,
        clock: Callable[[], datetime],
    ) -> None:
        self._planner = planner
        self._embeddings = embeddings
        self._limits = limits
        self._clock = clock

    async def prepare(self, state: IntentState) -> Prepared | None:
        """The next step, whoever has to be asked for it; None if there is none now."""
        step = react(state)
        match step:
            case PlanStep():
                return await self._plan(state, step) if self._due(step.not_before) else None
            case RepairStep():
                return await self._repair(state, step) if self._due(step.not_before) else None
            case RequestRunStep():
                return await self._request_run(state, step)
            case None:
                return None

    async def prepare_at_once(self, state: IntentState) -> Prepared | None:
        """The next step, if nothing but the database has to be asked for it.

        Such a step is recorded together with what made it possible. None: there is none, or it is
        one for `domain.application.process_manager`.
        """
        step = react(state)
        match step:
            case PlanStep(attempt=1, not_before=None):
                plan = await self._planner.plan_at_once(state)
                return None if plan is None else await self._planned(state, plan, ask=False)
            case RequestRunStep():
                return await self._request_run(state, step)
        return None

    def _due(self, not_before: datetime | None) -> bool:
        """Whether a delay is over; the bus that wakes us has a clock of its own."""
        return not_before is None or not_before - self._clock() < _CLOCKS_DIFFER

    async def _request_run(self, state: IntentState, ready: RequestRunStep) -> Prepared:
        limits = await self._limits.of(state.tenant_id)
        step = state.step(ready.step)
        asked = step.program.limits if step is not None else Limits()
        return Prepared(RequestRun(limits.resolve(asked), self._clock(), ready.step, ready.attempt))

    async def _plan(self, state: IntentState, step: PlanStep) -> Prepared | None:
        plan = await self._planner.plan(state, step.attempt)
        if isinstance(plan, Busy):
            return None
        if isinstance(plan, Postponed):
            postpone = PostponePlanning(
                step.attempt, plan.cause, plan.retry_after, self._clock(), calls=plan.calls
            )
            return Prepared(postpone, plan.writes)
        return await self._planned(state, plan, ask=True)

    async def _planned(self, state: IntentState, plan: Plan | NoPlan, *, ask: bool) -> Prepared:
        """The end of planning, with the vector of the intent's text.

        Args:
            state: the intent.
            plan: how planning ended.
            ask: whether a provider may be asked for the vector; if not, it is owed.
        """
        model: str | None = None
        writes = [*plan.writes]
        if state.content.text is not None:
            recording = await self._embeddings.record(
                state.id, state.tenant_id, state.content.text, ask=ask
            )
            model = recording.model
            writes += recording.writes
        now = self._clock()
        if isinstance(plan, NoPlan):
            return Prepared(RejectPlan(plan.cause, now, plan.calls), writes)
        return Prepared(_record(plan, model, now), writes)

    async def _repair(self, state: IntentState, step: RepairStep) -> Prepared | None:
        failed = state.run(step.run_id)
        if failed is None:
            raise ValueError(
                f"intent {state.id}: a repair was requested after a run that it does not have"
            )
        repaired = await self._planner.repair(state, failed, step.attempt)
        if isinstance(repaired, Busy):
            return None
        now, calls = self._clock(), repaired.calls
        command: Command
        match repaired:
            case Repaired():
                command = RecordRepair(
                    step.step,
                    step.run_id,
                    repaired.program,
                    repaired.explanation,
                    repaired.author,
                    now,
                    calls,
                )
            case NoPlan():
                command = RejectRepair(step.step, step.run_id, repaired.cause, now, calls)
            case Postponed():
                command = PostponePlanning(
                    step.attempt,
                    repaired.cause,
                    repaired.retry_after,
                    now,
                    step.step,
                    step.run_id,
                    calls,
                )
        return Prepared(command, repaired.writes)


def _record(plan: Plan, model: str | None, at: datetime) -> RecordPlan:
    return RecordPlan(
        plan.source,
        plan.program,
        plan.reused_from,
        model,
        at,
        steps=plan.steps,
        explanation=plan.explanation,
        author=plan.author,
        examples=plan.examples,
        expected_artifacts=plan.expected_artifacts,
        repairs=plan.repairs,
        calls=plan.calls,
    )
