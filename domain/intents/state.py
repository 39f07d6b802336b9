"""The state of an intent, folded from its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain.intents.content import IntentContent, Program
from domain.intents.events import (
    FailureCause,
    IntentCancelled,
    IntentEvent,
    IntentFailed,
    IntentPlanned,
    IntentSubmitted,
    IntentSucceeded,
    PlanSource,
    RunOutcome,
    SandboxRunFinished,
    SandboxRunRequested,
    UnknownEvent,
)


class Status(StrEnum):
    """submitted → planned → running → succeeded | failed | cancelled."""

    SUBMITTED = "submitted"
    PLANNED = "planned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to the intent."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True, slots=True)
class Run:
    """One sandbox run; ``outcome`` is None while it is open."""

    run_id: UUID
    attempt: int
    not_before: datetime | None
    outcome: RunOutcome | None = None


@dataclass(frozen=True, slots=True)
class IntentState:
    """An intent as its events tell it. ``version`` counts events, unknown ones too."""

    version: int
    id: UUID
    tenant_id: str
    status: Status
    content: IntentContent
    fingerprint: str
    submitted_at: datetime
    updated_at: datetime
    program: Program | None = None
    plan_source: PlanSource | None = None
    reused_from: UUID | None = None
    embedding_model: str | None = None
    runs: tuple[Run, ...] = ()
    failure: FailureCause | None = None
    completed_at: datetime | None = None

    @property
    def last_run(self) -> Run | None:
        """The latest run, open or finished."""
        return self.runs[-1] if self.runs else None

    @property
    def open_run(self) -> Run | None:
        """The run the sandbox still owes a result for."""
        run = self.last_run
        return run if run is not None and run.outcome is None else None


class CorruptStream(ValueError):
    """The stream does not begin with the submission of an intent."""


def evolve(state: IntentState | None, event: IntentEvent | UnknownEvent) -> IntentState:
    """The state after ``event``.

    Raises:
        CorruptStream: the first event is not IntentSubmitted, or a later one is.
    """
    if isinstance(event, IntentSubmitted):
        if state is not None:
            raise CorruptStream("a second IntentSubmitted in one stream")
        return IntentState(
            version=1,
            id=event.intent_id,
            tenant_id=event.tenant_id,
            status=Status.SUBMITTED,
            content=event.content,
            fingerprint=event.fingerprint,
            submitted_at=event.at,
            updated_at=event.at,
        )
    if state is None:
        raise CorruptStream(f"the stream begins with {event.type}")
    version = state.version + 1
    if isinstance(event, UnknownEvent):
        return replace(state, version=version)
    # One copy for all that changes: folding is what a rebuild spends its time on.
    return replace(state, version=version, updated_at=event.at, **_changes(state, event))


def _changes(state: IntentState, event: IntentEvent) -> dict[str, Any]:
    """The fields of the state that ``event`` sets, beside version and time."""
    match event:
        case IntentPlanned():
            return {
                "status": Status.PLANNED,
                "program": event.program or state.content.program,
                "plan_source": event.source,
                "reused_from": event.reused_from,
                "embedding_model": event.embedding_model,
            }
        case SandboxRunRequested():
            run = Run(event.run_id, event.attempt, event.not_before)
            return {"status": Status.RUNNING, "runs": (*state.runs, run)}
        case SandboxRunFinished():
            runs = tuple(
                replace(run, outcome=event.outcome) if run.run_id == event.run_id else run
                for run in state.runs
            )
            return {"runs": runs}
        case IntentSucceeded():
            return {"status": Status.SUCCEEDED, "completed_at": event.at}
        case IntentFailed():
            return {
                "status": Status.FAILED,
                "failure": event.cause,
                "completed_at": event.at,
            }
        case IntentCancelled():
            return {"status": Status.CANCELLED, "completed_at": event.at}
        case _:
            raise CorruptStream(f"no rule for {event.type}")


def fold(
    events: Iterable[IntentEvent | UnknownEvent], state: IntentState | None = None
) -> IntentState | None:
    """The state after all ``events``, starting from ``state``; None for an empty stream."""
    for event in events:
        state = evolve(state, event)
    return state
