"""The events that follow from plans, repairs, and a language model that is not available."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from domain.intents.commands import (
    PostponePlanning,
    RecordPlan,
    RecordRepair,
    RejectPlan,
    RejectRepair,
)
from domain.intents.event_parts import FailureCause, ModelCall
from domain.intents.events import (
    IntentEvent,
    IntentFailed,
    IntentPlanned,
    LanguageModelCalled,
    PlanningPostponed,
    ProgramRepaired,
)
from domain.intents.run_decisions import cause_of
from domain.intents.state import IntentState, Status, Step

#: The wait before each further try while no language model is available.
PLANNING_DELAYS = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
)

#: The longest wait, even where a provider asks for a longer one.
LONGEST_DELAY = timedelta(hours=1)


def decide_plan(command: RecordPlan | RejectPlan, state: IntentState) -> Sequence[IntentEvent]:
    """The plan, or the failure to find one; only its calls if it comes too late.

    Raises:
        ValueError: a plan without a program, where none was submitted.
    """
    called = _called(command.calls, command.at)
    if state.status is not Status.SUBMITTED:
        return called
    if isinstance(command, RejectPlan):
        return [*called, IntentFailed(at=command.at, cause=command.cause)]
    if command.program is None and not command.steps and state.content.program is None:
        raise ValueError("a plan needs a program where none was submitted")
    planned = IntentPlanned(
        at=command.at,
        source=command.source,
        program=command.program,
        steps=command.steps,
        reused_from=command.reused_from,
        embedding_model=command.embedding_model,
        explanation=command.explanation,
        author=command.author,
        examples=command.examples,
        expected_artifacts=command.expected_artifacts,
        repairs=command.repairs,
    )
    return [*called, planned]


def decide_repair(command: RecordRepair | RejectRepair, state: IntentState) -> list[IntentEvent]:
    """The repaired program, or the end of an intent whose program cannot be repaired."""
    called = _called(command.calls, command.at)
    if _broken(command, state) is None:
        return called
    if isinstance(command, RejectRepair):
        return [*called, _unrepaired(command, state)]
    repaired = ProgramRepaired(
        at=command.at,
        step=command.step,
        program=command.program,
        explanation=command.explanation,
        author=command.author,
    )
    return [*called, repaired]


def decide_postponement(command: PostponePlanning, state: IntentState) -> list[IntentEvent]:
    """Another try later, or the end after the last one."""
    called = _called(command.calls, command.at)
    broken = _broken(command, state) if command.step is not None else None
    delay = broken.delay if broken is not None else state.delay
    waits = broken is not None or (command.step is None and state.status is Status.SUBMITTED)
    if not waits or command.attempt != delay.attempts + 1:
        return called
    if delay.attempts < len(PLANNING_DELAYS):
        wait = max(PLANNING_DELAYS[delay.attempts], command.retry_after or timedelta(0))
        postponed = PlanningPostponed(
            at=command.at,
            attempt=command.attempt,
            not_before=command.at + min(wait, LONGEST_DELAY),
            cause=command.cause,
            step=command.step,
        )
        return [*called, postponed]
    if broken is not None:
        return [*called, _unrepaired(command, state)]
    return [*called, IntentFailed(at=command.at, cause=command.cause)]


def _called(calls: Sequence[ModelCall], at: datetime) -> list[IntentEvent]:
    """Calls were paid for, and are recorded whatever has become of the intent meanwhile."""
    return [LanguageModelCalled(at=at, call=call) for call in calls]


def _broken(
    command: RecordRepair | RejectRepair | PostponePlanning, state: IntentState
) -> Step | None:
    """The step that the command is about, if it still waits for that very repair."""
    if state.status.terminal or command.step is None:
        return None
    step = state.step(command.step)
    return step if step is not None and step.broken == command.run_id else None


def _unrepaired(command: RejectRepair | PostponePlanning, state: IntentState) -> IntentFailed:
    """The failure of the program itself, and why it could not be repaired."""
    run = state.run(command.run_id) if command.run_id is not None else None
    if run is None or run.outcome is None:
        return IntentFailed(at=command.at, cause=command.cause)
    cause = cause_of(run.outcome, state, run)
    message = f"{cause.message} It could not be repaired: {command.cause.message}"
    return IntentFailed(
        at=command.at,
        cause=FailureCause(code=cause.code, message=message),
        run_id=run.run_id,
    )
