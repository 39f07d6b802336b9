"""What may be asked of an intent. ``at`` is the caller's clock; the decider has none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from domain.intents.content import IntentContent, Program
from domain.intents.events import FailureCause, PlanSource, RunOutcome

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
    """A program was found. ``program`` is None where the submitted one is the plan."""

    source: PlanSource
    program: Program | None
    reused_from: UUID | None
    embedding_model: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class RejectPlan:
    """No program can be had."""

    cause: FailureCause
    at: datetime


@dataclass(frozen=True, slots=True)
class RequestRun:
    """Ask the sandbox for a run of the planned program."""

    at: datetime


@dataclass(frozen=True, slots=True)
class RecordRun:
    """The sandbox host reports how a run ended."""

    run_id: UUID
    outcome: RunOutcome
    at: datetime


Command = SubmitIntent | CancelIntent | RecordPlan | RejectPlan | RequestRun | RecordRun
