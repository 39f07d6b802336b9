"""Folds the events of an intent into its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from domain.intents.events import (
    IntentCancelled,
    IntentEvent,
    IntentFailed,
    IntentPlanned,
    IntentSubmitted,
    IntentSucceeded,
    LanguageModelCalled,
    PlanningPostponed,
    ProgramRepaired,
    RepairRequested,
    SandboxRunFinished,
    SandboxRunKillRequested,
    SandboxRunRequested,
    UnknownEvent,
)
from domain.intents.state import (
    MAIN_STEP,
    NO_DELAY,
    Delay,
    IntentState,
    ModelUsage,
    Run,
    Status,
    Step,
)


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
        return _construct(
            IntentState,
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
        return _copy_with(state, version=version)
    changes = _CHANGES[type(event)](state, event)
    changes["version"] = version
    changes["updated_at"] = event.at
    return _copy_with(state, **changes)


_State = TypeVar("_State", IntentState, Run, Step)
_Changes = dict[str, Any]


def _construct(kind: type[_State], **fields: Any) -> _State:  # noqa: ANN401 values of any fields
    """A ``kind`` with these fields, for a third of the work of a frozen class's constructor.

    Fields left out have their defaults, which are attributes of the class.
    """
    state = object.__new__(kind)
    state.__dict__.update(fields)
    return state


def _copy_with(state: _State, **changes: Any) -> _State:  # noqa: ANN401 values of any fields
    """A copy of ``state`` with ``changes``, for a fifth of the work of `dataclasses.replace`.

    A rebuild spends much of its time in folding.
    """
    copy = object.__new__(type(state))
    copy.__dict__.update(state.__dict__, **changes)
    return copy


def _called(state: IntentState, event: LanguageModelCalled) -> _Changes:
    usage, call = state.usage, event.call
    return {
        "usage": ModelUsage(
            usage.calls + 1,
            usage.input_tokens + call.input_tokens,
            usage.output_tokens + call.output_tokens,
            usage.cost_microusd + call.cost_microusd,
        )
    }


def _postponed(state: IntentState, event: PlanningPostponed) -> _Changes:
    delay = Delay(event.attempt, event.not_before)
    if event.step is None:
        return {"delay": delay}
    return {"steps": _with_step(state, event.step, delay=delay)}


def _planned(state: IntentState, event: IntentPlanned) -> _Changes:
    program = event.program or state.content.program
    steps = tuple(
        [
            _construct(Step, name=step.name, program=step.program, needs=step.needs)
            for step in event.steps
        ]
    )
    if not steps and program is not None:
        steps = (_construct(Step, name=MAIN_STEP, program=program),)
    if event.expected_artifacts and steps:
        steps = (*steps[:-1], _copy_with(steps[-1], expects=event.expected_artifacts))
    return {
        "status": Status.PLANNED,
        "steps": steps,
        "plan_source": event.source,
        "reused_from": event.reused_from,
        "embedding_model": event.embedding_model,
        "explanation": event.explanation,
        "author": event.author,
        "repairs": event.repairs,
        "delay": NO_DELAY,
    }


def _repair_requested(state: IntentState, event: RepairRequested) -> _Changes:
    return {"steps": _with_step(state, event.step, broken=event.run_id)}


def _repaired(state: IntentState, event: ProgramRepaired) -> _Changes:
    step = state.step(event.step)
    if step is None:
        return {}
    repaired = _copy_with(
        step, program=event.program, repairs=step.repairs + 1, broken=None, delay=NO_DELAY
    )
    return {
        "steps": tuple(repaired if other is step else other for other in state.steps),
        "plan_source": "repaired",
        "explanation": event.explanation or state.explanation,
        "author": event.author or state.author,
    }


def _run_requested(state: IntentState, event: SandboxRunRequested) -> _Changes:
    name = event.step or MAIN_STEP
    step = state.step(name)
    run = _construct(
        Run,
        run_id=event.run_id,
        attempt=event.attempt,
        not_before=event.not_before,
        limits=event.limits,
        step=name,
        repairs=step.repairs if step else 0,
    )
    return {"status": Status.RUNNING, "runs": (*state.runs, run)}


def _kill_requested(state: IntentState, event: SandboxRunKillRequested) -> _Changes:
    return {"runs": _with_run(state, event.run_id, kill_requested=True)}


def _run_finished(state: IntentState, event: SandboxRunFinished) -> _Changes:
    return {"runs": _with_run(state, event.run_id, outcome=event.outcome)}


def _with_run(state: IntentState, run_id: UUID, **changes: Any) -> tuple[Run, ...]:  # noqa: ANN401
    return tuple([_copy_with(r, **changes) if r.run_id == run_id else r for r in state.runs])


def _with_step(state: IntentState, name: str, **changes: Any) -> tuple[Step, ...]:  # noqa: ANN401
    return tuple(
        [_copy_with(step, **changes) if step.name == name else step for step in state.steps]
    )


def _succeeded(_: IntentState, event: IntentSucceeded) -> _Changes:
    return {"status": Status.SUCCEEDED, "completed_at": event.at}


def _failed(_: IntentState, event: IntentFailed) -> _Changes:
    return {
        "status": Status.FAILED,
        "failure": event.cause,
        "failed_run": event.run_id,
        "completed_at": event.at,
    }


def _cancelled(_: IntentState, event: IntentCancelled) -> _Changes:
    return {"status": Status.CANCELLED, "completed_at": event.at}


#: The fields that an event of each type sets, besides version and time.
_CHANGES: Mapping[type[IntentEvent], Callable[[IntentState, Any], _Changes]] = {
    LanguageModelCalled: _called,
    PlanningPostponed: _postponed,
    IntentPlanned: _planned,
    RepairRequested: _repair_requested,
    ProgramRepaired: _repaired,
    SandboxRunRequested: _run_requested,
    SandboxRunKillRequested: _kill_requested,
    SandboxRunFinished: _run_finished,
    IntentSucceeded: _succeeded,
    IntentFailed: _failed,
    IntentCancelled: _cancelled,
}


def fold(
    events: Iterable[IntentEvent | UnknownEvent], state: IntentState | None = None
) -> IntentState | None:
    """The state after all ``events``, starting from ``state``; None for an empty stream."""
    for event in events:
        state = evolve(state, event)
    return state
