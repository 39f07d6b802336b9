"""The decisions: which events follow from a command, and which step a state calls for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid5

from domain.intents.commands import (
    CancelIntent,
    Command,
    RecordPlan,
    RecordRun,
    RejectPlan,
    RequestRun,
    SubmitIntent,
)
from domain.intents.events import (
    FailureCause,
    IntentCancelled,
    IntentEvent,
    IntentFailed,
    IntentPlanned,
    IntentSubmitted,
    IntentSucceeded,
    RunOutcome,
    SandboxRunFinished,
    SandboxRunRequested,
)
from domain.intents.state import IntentState, Status

#: Tries of one run when the sandbox host itself fails.
MAX_RUN_ATTEMPTS = 4

#: Wait before try 2, 3 and 4.
RETRY_DELAYS = (timedelta(seconds=2), timedelta(seconds=15), timedelta(seconds=60))


class IntentRefused(Exception):
    """The command cannot be carried out in this state."""


class IntentNotFound(IntentRefused):
    """There is no such intent."""


class IntentAlreadyFinished(IntentRefused):
    """The intent has ended and can no longer be changed."""


class SubmissionConflict(IntentRefused):
    """The same id or idempotency key was used before for different content."""


def decide(command: Command, state: IntentState | None) -> Sequence[IntentEvent]:
    """The events that ``command`` causes in ``state``; empty when it changes nothing.

    A repeated, late or stale internal command changes nothing, so duplicates and reordering of
    the messages that carry them are harmless.

    Raises:
        IntentNotFound: any command but SubmitIntent on an empty stream.
        IntentAlreadyFinished: CancelIntent after success or failure.
        SubmissionConflict: SubmitIntent repeated with other content.
    """
    if isinstance(command, SubmitIntent):
        return _submit(command, state)
    if state is None:
        raise IntentNotFound("no such intent")
    match command:
        case CancelIntent():
            return _cancel(command, state)
        case RecordPlan() | RejectPlan():
            return _plan(command, state)
        case RequestRun():
            return _request_run(command, state)
        case RecordRun():
            return _record_run(command, state)


def _submit(command: SubmitIntent, state: IntentState | None) -> Sequence[IntentEvent]:
    fingerprint = command.content.fingerprint()
    if state is None:
        return [
            IntentSubmitted(
                at=command.at,
                intent_id=command.intent_id,
                tenant_id=command.tenant_id,
                origin=command.origin,
                content=command.content,
                fingerprint=fingerprint,
            )
        ]
    if state.fingerprint != fingerprint:
        raise SubmissionConflict("this key was used before for different content")
    return []


def _cancel(command: CancelIntent, state: IntentState) -> Sequence[IntentEvent]:
    if state.status is Status.CANCELLED:
        return []
    if state.status.terminal:
        raise IntentAlreadyFinished(f"the intent has already {state.status}")
    return [IntentCancelled(at=command.at, reason=command.reason)]


def _plan(command: RecordPlan | RejectPlan, state: IntentState) -> Sequence[IntentEvent]:
    if state.status is not Status.SUBMITTED:
        return []
    if isinstance(command, RejectPlan):
        return [IntentFailed(at=command.at, cause=command.cause)]
    if command.program is None and state.content.program is None:
        raise ValueError("a plan needs a program where none was submitted")
    return [
        IntentPlanned(
            at=command.at,
            source=command.source,
            program=command.program,
            reused_from=command.reused_from,
            embedding_model=command.embedding_model,
        )
    ]


def _request_run(command: RequestRun, state: IntentState) -> Sequence[IntentEvent]:
    if state.status is not Status.PLANNED:
        return []
    return [SandboxRunRequested(at=command.at, run_id=run_id_of(state.id, attempt=1), attempt=1)]


def _record_run(command: RecordRun, state: IntentState) -> Sequence[IntentEvent]:
    run = state.open_run
    if run is None or run.run_id != command.run_id:
        return []
    finished = SandboxRunFinished(at=command.at, run_id=run.run_id, outcome=command.outcome)
    if state.status.terminal:  # cancelled meanwhile: what the run used is still a fact
        return [finished]
    if command.outcome.verdict == "succeeded":
        return [finished, IntentSucceeded(at=command.at, run_id=run.run_id)]
    if command.outcome.retryable and run.attempt < MAX_RUN_ATTEMPTS:
        attempt = run.attempt + 1
        retry = SandboxRunRequested(
            at=command.at,
            run_id=run_id_of(state.id, attempt),
            attempt=attempt,
            not_before=command.at + RETRY_DELAYS[run.attempt - 1],
        )
        return [finished, retry]
    return [finished, IntentFailed(at=command.at, cause=_cause(command.outcome, run.attempt))]


_MESSAGES = {
    "signalled": "The program was ended by a signal.",
    "timed_out": "The program ran longer than its wall-clock limit and was killed.",
    "out_of_memory": "The program needed more memory than its limit and was killed.",
    "output_limit": "The program wrote far more output than its limit and was killed.",
    "invalid_job": "The sandbox refused the program.",
}


def _cause(outcome: RunOutcome, attempt: int) -> FailureCause:
    if outcome.retryable:
        message = f"The sandbox failed {attempt} times in a row; submit the intent again later."
        code = "sandbox_unavailable"
    elif outcome.verdict == "exited":
        message = f"The program exited with code {outcome.exit_code}; see stderr."
        code = "program_exited"
    else:
        message = _MESSAGES.get(outcome.verdict, f"The run ended as {outcome.verdict}.")
        code = outcome.verdict
    if outcome.error:
        message = f"{message} {outcome.error}"
    return FailureCause(code=code, message=message)


def run_id_of(intent_id: UUID, attempt: int) -> UUID:
    """The id of an intent's ``attempt``-th run: derived, so that a repeat has the same one."""
    return uuid5(intent_id, f"run-{attempt}")


@dataclass(frozen=True, slots=True)
class PlanStep:
    """Find a program for the intent."""


@dataclass(frozen=True, slots=True)
class RequestRunStep:
    """Ask the sandbox for a run."""


Step = PlanStep | RequestRunStep


def react(state: IntentState) -> Step | None:
    """The one next step of ``state``; None while it waits for the sandbox or has ended."""
    match state.status:
        case Status.SUBMITTED:
            return PlanStep()
        case Status.PLANNED:
            return RequestRunStep()
        case _:
            return None
