"""Moves intents on: derives the one next step from the state and takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.access.limits import LimitsStore
from domain.application.handler import CommandHandler
from domain.application.planning import (
    Busy,
    NoPlan,
    Plan,
    PlanningService,
    Postponed,
    Repaired,
)
from domain.application.repository import IntentRepository
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
class _Prepared:
    command: Command
    inline: Sequence[InlineWrite] = ()


class ProcessManager:
    """Takes the steps that follow from the state alone, whatever message woke it.

    So a duplicate, late or reordered message is harmless: it finds nothing left to do.
    """

    def __init__(
        self,
        repository: IntentRepository,
        handler: CommandHandler,
        planner: PlanningService,
        embeddings: EmbeddingStore,
        limits: LimitsStore,
        clock: Callable[[], datetime],
    ) -> None:
        self._repository = repository
        self._handler = handler
        self._planner = planner
        self._embeddings = embeddings
        self._limits = limits
        self._clock = clock

    async def advance(self, intent_id: UUID, *, traceparent: str) -> IntentState | None:
        """Take steps until the intent waits for something else or has ended.

        Returns:
            the state reached; None if there is no such intent.
        """
        state = await self._repository.load(intent_id)
        while state is not None and (prepared := await self._prepare(state)) is not None:
            handled = await self._handler.handle(
                intent_id, prepared.command, traceparent=traceparent, inline=prepared.inline
            )
            state = handled.state
        return state

    async def _prepare(self, state: IntentState) -> _Prepared | None:
        step = react(state)
        match step:
            case PlanStep():
                return await self._plan(state, step) if self._due(step.not_before) else None
            case RepairStep():
                return await self._repair(state, step) if self._due(step.not_before) else None
            case RequestRunStep():
                return _Prepared(await self._request_run(state, step))
            case None:
                return None

    def _due(self, not_before: datetime | None) -> bool:
        """Whether a delay is over; the bus that wakes us has a clock of its own."""
        return not_before is None or not_before - self._clock() < _CLOCKS_DIFFER

    async def _request_run(self, state: IntentState, ready: RequestRunStep) -> RequestRun:
        limits = await self._limits.of(state.tenant_id)
        step = state.step(ready.step)
        asked = step.program.limits if step is not None else Limits()
        return RequestRun(limits.resolve(asked), self._clock(), ready.step, ready.attempt)

    async def _plan(self, state: IntentState, step: PlanStep) -> _Prepared | None:
        plan = await self._planner.plan(state, step.attempt)
        if isinstance(plan, Busy):
            return None
        now = self._clock()
        if isinstance(plan, Postponed):
            postpone = PostponePlanning(
                step.attempt, plan.cause, plan.retry_after, now, calls=plan.calls
            )
            return _Prepared(postpone, plan.writes)
        model: str | None = None
        writes = [*plan.writes]
        if state.content.text is not None:
            recording = await self._embeddings.record(state.id, state.tenant_id, state.content.text)
            model = recording.model
            writes += recording.writes
        if isinstance(plan, NoPlan):
            return _Prepared(RejectPlan(plan.cause, now, plan.calls), writes)
        return _Prepared(_record(plan, model, now), writes)

    async def _repair(self, state: IntentState, step: RepairStep) -> _Prepared | None:
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
        return _Prepared(command, repaired.writes)


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
