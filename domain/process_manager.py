"""Moves intents on: derives the one next step from the state and takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.eventlog.models import InlineWrite
from domain.handler import CommandHandler
from domain.intents.commands import Command, RecordPlan, RejectPlan, RequestRun
from domain.intents.decider import PlanStep, RequestRunStep, react
from domain.intents.state import IntentState
from domain.planning.planner import NoPlan, Planner
from domain.repository import IntentRepository
from domain.similarity.store import EmbeddingStore


@dataclass(frozen=True, slots=True)
class _Prepared:
    command: Command
    inline: Sequence[InlineWrite] = ()


class ProcessManager:
    """Steps follow from the state alone, never from the message that woke it.

    So a duplicate, late or reordered message is harmless: it finds nothing left to do.
    """

    def __init__(
        self,
        repository: IntentRepository,
        handler: CommandHandler,
        planner: Planner,
        embeddings: EmbeddingStore,
        clock: Callable[[], datetime],
    ) -> None:
        self._repository = repository
        self._handler = handler
        self._planner = planner
        self._embeddings = embeddings
        self._clock = clock

    async def advance(self, intent_id: UUID, *, traceparent: str) -> IntentState | None:
        """Take steps until the intent waits for somebody else or has ended.

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
        match react(state):
            case PlanStep():
                return await self._plan(state)
            case RequestRunStep():
                return _Prepared(RequestRun(self._clock()))
            case None:
                return None

    async def _plan(self, state: IntentState) -> _Prepared:
        plan = await self._planner.plan(state)
        model: str | None = None
        inline: Sequence[InlineWrite] = ()
        if state.content.text is not None:
            model = self._embeddings.model
            inline = await self._embeddings.writes_for(
                state.id, state.tenant_id, state.content.text
            )
        if isinstance(plan, NoPlan):
            return _Prepared(RejectPlan(plan.cause, self._clock()), inline)
        command = RecordPlan(plan.source, plan.program, plan.reused_from, model, self._clock())
        return _Prepared(command, inline)
