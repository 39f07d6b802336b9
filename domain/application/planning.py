"""The interface of planners, and what they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from domain.eventlog.models import InlineWrite
from domain.intents.content import Program
from domain.intents.event_parts import Author, FailureCause, ModelCall, PlannedStep, PlanSource
from domain.intents.state import IntentState, Run


@dataclass(frozen=True, slots=True)
class Plan:
    """A program for the intent, or several; without any, the submitted one is the plan.

    Its fields are those of `domain.intents.events.IntentPlanned`. Here and in the other results,
    ``writes`` charge the calls in place of what was reserved for them, in the transaction that
    records them.
    """

    source: PlanSource
    program: Program | None = None
    reused_from: UUID | None = None
    steps: tuple[PlannedStep, ...] = ()
    explanation: str | None = None
    author: Author | None = None
    examples: tuple[UUID, ...] = ()
    expected_artifacts: tuple[str, ...] = ()
    repairs: int = 0
    calls: tuple[ModelCall, ...] = ()
    writes: Sequence[InlineWrite] = ()


@dataclass(frozen=True, slots=True)
class Repaired:
    """A program in place of one that failed."""

    program: Program
    explanation: str | None
    author: Author
    calls: tuple[ModelCall, ...] = ()
    writes: Sequence[InlineWrite] = ()


@dataclass(frozen=True, slots=True)
class NoPlan:
    """There will be no program, and why."""

    cause: FailureCause
    calls: tuple[ModelCall, ...] = ()
    writes: Sequence[InlineWrite] = ()


@dataclass(frozen=True, slots=True)
class Postponed:
    """No language model is available now; ``retry_after``: the pause its provider asks for."""

    cause: FailureCause
    retry_after: timedelta | None = None
    calls: tuple[ModelCall, ...] = ()
    writes: Sequence[InlineWrite] = ()


@dataclass(frozen=True, slots=True)
class Busy:
    """Another worker is making this very call; there is nothing to record."""


class PlanningService(Protocol):
    """Finds programs for intents, and repairs those that failed."""

    async def plan(self, state: IntentState, attempt: int) -> Plan | NoPlan | Postponed | Busy:
        """The plan for an intent; ``attempt`` counts from 1."""

    async def plan_at_once(self, state: IntentState) -> Plan | None:
        """The plan for an intent that only the database has to be asked for; None: `plan` may."""

    async def repair(
        self, state: IntentState, failed: Run, attempt: int
    ) -> Repaired | NoPlan | Postponed | Busy:
        """A new program for the step whose run ``failed``."""
