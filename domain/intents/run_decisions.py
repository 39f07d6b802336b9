"""The events that follow when a sandbox run is requested, to be killed, or has ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from domain.intents.commands import KillRun, RecordRun, RequestRun
from domain.intents.content import Limits
from domain.intents.event_parts import FailureCause, RunOutcome
from domain.intents.events import (
    IntentEvent,
    IntentFailed,
    IntentSucceeded,
    RepairRequested,
    SandboxRunFinished,
    SandboxRunKillRequested,
    SandboxRunRequested,
)
from domain.intents.evolve import evolve
from domain.intents.ids import derived_id
from domain.intents.refusals import NothingRuns
from domain.intents.state import MAIN_STEP, IntentState, Run

#: How often a program is tried when the sandbox host itself fails.
MAX_RUN_ATTEMPTS = 4

#: The wait before try 2, 3 and 4.
RETRY_DELAYS = (timedelta(seconds=2), timedelta(seconds=15), timedelta(seconds=60))

#: Verdicts that another program may avoid.
REPAIRABLE = frozenset(
    {
        "succeeded",  # without the artifacts it must leave
        "exited",
        "signalled",
        "timed_out",
        "out_of_memory",
        "output_limit",
        "disk_limit",
        "process_limit",
    }
)


def run_id_of(intent_id: UUID, attempt: int, step: str = MAIN_STEP) -> UUID:
    """The id of a step's ``attempt``-th run: derived, so that a repeat has the same one."""
    name = f"run-{attempt}" if step == MAIN_STEP else f"run-{step}-{attempt}"
    return derived_id(intent_id, name)


def decide_request(command: RequestRun, state: IntentState) -> Sequence[IntentEvent]:
    """The request, if the step can run now and this is its next run."""
    step = None if state.status.terminal else state.step(command.step)
    if step is None or command.attempt != len(state.runs_of(step.name)) + 1:
        return []
    if not state.is_ready(step):
        return []
    return [_request(state, step.name, command.attempt, at=command.at, limits=command.limits)]


def decide_kill(command: KillRun, state: IntentState) -> Sequence[IntentEvent]:
    """The request to kill; nothing if there was one before.

    Raises:
        NothingRuns: the run is not open.
    """
    run = state.run(command.run_id)
    if run is None or run.outcome is not None:
        raise NothingRuns("this run has ended, or is not one of this intent's")
    if run.kill_requested:
        return []
    return [
        SandboxRunKillRequested(
            at=command.at, run_id=run.run_id, operator=command.operator, reason=command.reason
        )
    ]


def decide_end(command: RecordRun, state: IntentState) -> Sequence[IntentEvent]:
    """The run's end, and what it means for the intent."""
    run = state.run(command.run_id)
    if run is None or run.outcome is not None:
        return []
    if state.status.terminal:  # cancelled or failed meanwhile: what the run used is still recorded
        outcome = _unwanted(command.outcome, run)
        return [SandboxRunFinished(at=command.at, run_id=run.run_id, outcome=outcome)]
    finished = SandboxRunFinished(at=command.at, run_id=run.run_id, outcome=command.outcome)
    after = evolve(state, finished)
    if not after.has_succeeded(run.step):
        return [finished, _failure(command, state, run)]
    if all(after.has_succeeded(step.name) for step in after.steps):
        return [finished, IntentSucceeded(at=command.at, run_id=run.run_id)]
    return [finished]


def _unwanted(outcome: RunOutcome, run: Run) -> RunOutcome:
    """The outcome of a run that ended after its intent: the host cannot tell who wanted it killed.

    It was killed by an operator only if one asked for it, and otherwise because the client
    cancelled the intent or another step failed.
    """
    if outcome.verdict == "killed_by_operator" and not run.kill_requested:
        return msgspec.structs.replace(outcome, verdict="cancelled")
    return outcome


def _failure(command: RecordRun, state: IntentState, run: Run) -> IntentEvent:
    tries = _tries(state, run)
    if command.outcome.retryable and tries < MAX_RUN_ATTEMPTS:
        return _request(
            state,
            run.step,
            run.attempt + 1,
            at=command.at,
            limits=run.limits,
            not_before=command.at + RETRY_DELAYS[tries - 1],
        )
    if command.outcome.verdict in REPAIRABLE and state.repairs_left > 0:
        return RepairRequested(at=command.at, step=run.step, run_id=run.run_id)
    cause = cause_of(command.outcome, state, run)
    return IntentFailed(at=command.at, cause=cause, run_id=run.run_id)


def _request(
    state: IntentState,
    step: str,
    attempt: int,
    *,
    at: datetime,
    limits: Limits | None,
    not_before: datetime | None = None,
) -> SandboxRunRequested:
    return SandboxRunRequested(
        at=at,
        run_id=run_id_of(state.id, attempt, step),
        attempt=attempt,
        not_before=not_before,
        limits=limits,
        step=step if len(state.steps) > 1 else None,
    )


_MESSAGES = {
    "signalled": "The program was ended by a signal.",
    "timed_out": "The program ran longer than its wall-clock limit and was killed.",
    "out_of_memory": "The program needed more memory than its limit and was killed.",
    "output_limit": "The program wrote far more output than its limit and was killed.",
    "disk_limit": "The program failed with all of its disk space, or its file count, used up.",
    "process_limit": "The program failed after it was refused more processes than its limit.",
    "killed_by_operator": "An operator had the program killed.",
    "invalid_job": "The sandbox refused the program.",
}


def _tries(state: IntentState, run: Run) -> int:
    """How often the program that ``run`` ran was tried, that run included."""
    return sum(other.repairs == run.repairs for other in state.runs_of(run.step))


def cause_of(outcome: RunOutcome, state: IntentState, run: Run) -> FailureCause:
    """Why an intent fails whose ``run`` ended like this."""
    step = state.step(run.step)
    if outcome.retryable:
        tries = _tries(state, run)
        message = f"The sandbox failed {tries} times in a row; submit the intent again later."
        code = "sandbox_unavailable"
    elif step is not None and outcome.verdict == "succeeded":
        missing = ", ".join(map(repr, step.missing_from(outcome)))
        message = f"The program exited with 0, but did not leave {missing} in its output folder."
        code = "artifacts_missing"
    elif outcome.verdict == "exited":
        message = f"The program exited with code {outcome.exit_code}; see stderr."
        code = "program_exited"
    else:
        message = _MESSAGES.get(outcome.verdict, f"The run ended as {outcome.verdict}.")
        code = outcome.verdict
    if outcome.error and not outcome.retryable:  # else it is about the host, for operators
        message = f"{message} {outcome.error}"
    if len(state.steps) > 1:
        message = f"Step {run.step!r}: {message}"
    return FailureCause(code=code, message=message)
