"""given(events).when(command).then(events) for the intent decider, and ready-made values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.intents.commands import (
    CancelIntent,
    Command,
    RecordPlan,
    RecordRun,
    RejectPlan,
    RequestRun,
    SubmitIntent,
)
from domain.intents.content import IntentContent, Limits
from domain.intents.decider import decide
from domain.intents.event_parts import FailureCause, RunOutcome
from domain.intents.events import (
    IntentEvent,
    IntentPlanned,
    IntentSubmitted,
    SandboxRunRequested,
)
from domain.intents.evolve import fold
from domain.intents.run_decisions import run_id_of
from domain.intents.struct import checked

INTENT = UUID("6f1c0b52-7c4e-4a0e-9d3e-2f4b6d8a1c3e")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROGRAM = {"language": "python", "files": {"main.py": "print(6 * 7)"}}
CONTENT = checked(IntentContent, {"text": "six by seven", "program": PROGRAM})
LIMITS = Limits(wall_seconds=10, processes=64)
SENTENCE = IntentContent(text="six by seven")
SUCCESS = RunOutcome(verdict="succeeded", exit_code=0, stdout="42\n")
CRASH = RunOutcome(verdict="exited", exit_code=3, stderr="boom")
OUTAGE = RunOutcome(verdict="infrastructure_error", retryable=True, error="no engine")


def submit(content: IntentContent = CONTENT) -> SubmitIntent:
    return SubmitIntent(INTENT, "acme", content, "http", NOW)


def cancel() -> CancelIntent:
    return CancelIntent("changed my mind", NOW)


def plan() -> RecordPlan:
    return RecordPlan("submitted", None, None, "lexical-1", NOW)


def reject() -> RejectPlan:
    return RejectPlan(FailureCause(code="planner_not_configured", message="set one"), NOW)


def request_run() -> RequestRun:
    return RequestRun(LIMITS, NOW)


def record(outcome: RunOutcome, attempt: int = 1) -> RecordRun:
    return RecordRun(run_id_of(INTENT, attempt), outcome, NOW)


def submitted(content: IntentContent = CONTENT) -> IntentSubmitted:
    return IntentSubmitted(
        at=NOW,
        intent_id=INTENT,
        tenant_id="acme",
        origin="http",
        content=content,
        fingerprint=content.fingerprint(),
    )


def planned() -> IntentPlanned:
    return IntentPlanned(at=NOW, source="submitted", embedding_model="lexical-1")


def requested(attempt: int = 1) -> SandboxRunRequested:
    return SandboxRunRequested(
        at=NOW, run_id=run_id_of(INTENT, attempt), attempt=attempt, limits=LIMITS
    )


class Given:
    def __init__(self, *history: IntentEvent) -> None:
        self.history = history

    def when(self, command: Command) -> When:
        return When(self.history, command)


class When:
    def __init__(self, history: Sequence[IntentEvent], command: Command) -> None:
        self.history = history
        self.command = command

    def then(self, *expected: IntentEvent) -> None:
        assert list(decide(self.command, fold(self.history))) == list(expected)

    def then_nothing(self) -> None:
        self.then()

    def then_refused(self, error: type[Exception]) -> None:
        with pytest.raises(error):
            decide(self.command, fold(self.history))


given = Given
