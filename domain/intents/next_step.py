"""The one next step that a state calls for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.intents.state import IntentState, Status

#: See `name_of`.
NO_STEP = "none"


@dataclass(frozen=True, slots=True)
class PlanStep:
    """Find a program for the intent, not before ``not_before``; ``attempt`` counts from 1."""

    attempt: int
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class RequestRunStep:
    """Ask the sandbox for a run of a step of the plan; ``attempt`` counts its runs from 1."""

    step: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RepairStep:
    """Have the program of a step repaired, after its run ``run_id`` failed."""

    step: str
    run_id: UUID
    attempt: int
    not_before: datetime | None


NextStep = PlanStep | RequestRunStep | RepairStep

_NAMES: dict[type[object], str] = {PlanStep: "plan", RequestRunStep: "run", RepairStep: "repair"}


def name_of(step: NextStep | None) -> str:
    """``plan``, ``run`` or ``repair``; ``none`` if there is nothing to do."""
    return _NAMES[type(step)] if step is not None else NO_STEP


def react(state: IntentState) -> NextStep | None:
    """The one next step of ``state``; None while it waits for the sandbox or has ended.

    Runs come before repairs: they go on in the sandbox while a program is repaired.
    """
    if state.status is Status.SUBMITTED:
        return PlanStep(state.delay.attempts + 1, state.delay.not_before)
    if state.status.terminal:
        return None
    ready = state.ready_step
    if ready is not None:
        return RequestRunStep(ready.name, len(state.runs_of(ready.name)) + 1)
    for step in state.steps:
        if step.broken is not None:
            delay = step.delay
            return RepairStep(step.name, step.broken, delay.attempts + 1, delay.not_before)
    return None
