"""The commands. ``at`` is the time by the caller's clock; the decider has none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from domain.intents.content import IntentContent, Limits, Program
from domain.intents.event_parts import (
    Author,
    FailureCause,
    ModelCall,
    PlannedStep,
    PlanSource,
    RunOutcome,
)
from domain.intents.state import MAIN_STEP

Origin = Literal["http", "service_bus"]


@dataclass(frozen=True, slots=True)
class SubmitIntent:
    """A client or producer wants something done."""

    intent_id: UUID
    tenant_id: str
    content: IntentContent
    origin: Origin
    at: datetime


@dataclass(frozen=True, slots=True)
class CancelIntent:
    """A client no longer wants it."""

    reason: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """A plan was found. Its fields are those of `domain.intents.events.IntentPlanned`.

    Attributes:
        calls: the calls of language models that were made for it.
    """

    source: PlanSource
    program: Program | None
    reused_from: UUID | None
    embedding_model: str | None
    at: datetime
    steps: tuple[PlannedStep, ...] = ()
    explanation: str | None = None
    author: Author | None = None
    examples: tuple[UUID, ...] = ()
    expected_artifacts: tuple[str, ...] = ()
    repairs: int = 0
    calls: tuple[ModelCall, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectPlan:
    """There will be no program."""

    cause: FailureCause
    at: datetime
    calls: tuple[ModelCall, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordRepair:
    """The model has repaired a step's program.

    Attributes:
        run_id: the run that failed.
    """

    step: str
    run_id: UUID
    program: Program
    explanation: str | None
    author: Author | None
    at: datetime
    calls: tuple[ModelCall, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectRepair:
    """A step's program cannot be repaired, and why."""

    step: str
    run_id: UUID
    cause: FailureCause
    at: datetime
    calls: tuple[ModelCall, ...] = ()


@dataclass(frozen=True, slots=True)
class PostponePlanning:
    """No language model is available now.

    Attributes:
        attempt: number of the attempt to plan or to repair, from 1.
        retry_after: the pause that its provider asks for, if it does.
        step: the step whose repair is postponed; None for the plan.
        run_id: the run that failed, for a repair.
    """

    attempt: int
    cause: FailureCause
    retry_after: timedelta | None
    at: datetime
    step: str | None = None
    run_id: UUID | None = None
    calls: tuple[ModelCall, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestRun:
    """Ask the sandbox for a run of a step's program, under ``limits``, all of which are set."""

    limits: Limits
    at: datetime
    step: str = MAIN_STEP
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class KillRun:
    """An operator wants a run to end."""

    run_id: UUID
    operator: str
    reason: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class RecordRun:
    """The sandbox host reports how a run ended."""

    run_id: UUID
    outcome: RunOutcome
    at: datetime


Command = (
    SubmitIntent
    | CancelIntent
    | RecordPlan
    | RejectPlan
    | RecordRepair
    | RejectRepair
    | PostponePlanning
    | RequestRun
    | KillRun
    | RecordRun
)
