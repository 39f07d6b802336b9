"""The read-model row of an intent, and when its next event is due."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from domain.contracts.job import DEFAULT_WALL_SECONDS
from domain.intents.content import Limits, Program
from domain.intents.event_parts import Author, RunOutcome
from domain.intents.state import IntentState, Run, Status, Step
from domain.intents.struct import plain
from domain.intents.text import text_hash
from domain.projections.intents import IntentRow


def row_of(state: IntentState) -> IntentRow:
    """The read-model row of a state."""
    step = state.result_step
    program = step.program if step is not None else state.content.program
    text = state.content.text
    return IntentRow(
        id=state.id,
        tenant_id=state.tenant_id,
        version=state.version,
        status=state.status.value,
        user_input=text or "",
        text_sha256=text_hash(text) if text else None,
        language=program.language if program else None,
        created_at=state.submitted_at,
        updated_at=state.updated_at,
        expected_by=expected_by(state),
        completed_at=state.completed_at,
        reused_from=state.reused_from,
        details=_details_of(state, program),
        outcome=outcome_of(state),
    )


def _details_of(state: IntentState, program: Program | None) -> dict[str, Any]:
    """What clients see of a submission besides the sentence; contents of files are in the events.

    The limits are those of the latest run; before the first run, those that were asked for.
    """
    limits = next((run.limits for run in reversed(state.runs) if run.limits is not None), None)
    if limits is None and program is not None:
        limits = program.limits
    return {
        "metadata": dict(state.content.metadata),
        "planning": plain(state.content.planning),
        "program": None if program is None else _summary_of(program),
        "limits": None if limits is None else plain(limits),
    }


def _summary_of(program: Program) -> dict[str, Any]:
    return {
        "language": program.language,
        "entrypoint": program.entrypoint,
        "files": [{"path": file.path, "size": file.size} for file in program.files],
    }


def expected_by(state: IntentState) -> datetime | None:
    """When the next event is due: a run may take its wall-clock limit, everything else no time."""
    if state.status.terminal:
        return None
    delays = [state.delay, *(step.delay for step in state.steps)]
    due = [delay.not_before for delay in delays if delay.not_before is not None]
    due += [_end_of(run, state) for run in state.open_runs]
    return max(state.updated_at, min(due, default=state.updated_at))


def _end_of(run: Run, state: IntentState) -> datetime:
    started = max(state.updated_at, run.not_before or state.updated_at)
    step = state.step(run.step)
    limits = run.limits or (step.program.limits if step is not None else Limits())
    return started + timedelta(seconds=limits.wall_seconds or DEFAULT_WALL_SECONDS)


_OMITTED_IF_EMPTY = (
    "warm",
    "artifacts",
    "skipped_artifacts",
    "more_skipped_artifacts",
    "behaviour",
)


def outcome_of(state: IntentState) -> dict[str, Any] | None:
    """The outcome of a finished intent, as clients see it; None before its end."""
    if not state.status.terminal:
        return None
    outcome: dict[str, Any] = {}
    run = state.decisive_run
    if run is not None and run.outcome is not None:
        outcome = _run_outcome(run, run.outcome)
    # Empty parts are left out, so that rows of releases that did not know them still compare equal.
    if len(state.steps) > 1:
        outcome["steps"] = [_step_outcome(state, step) for step in state.steps]
    if state.author is not None:
        outcome["plan"] = _plan_of(state, state.author)
    if state.usage.calls:
        outcome["model_usage"] = {
            "calls": state.usage.calls,
            "input_tokens": state.usage.input_tokens,
            "output_tokens": state.usage.output_tokens,
            "cost_usd": state.usage.cost_microusd / 1e6,
        }
    if state.status is Status.FAILED and state.failure is not None:
        outcome["error"] = plain(state.failure)
    return outcome


def _run_outcome(run: Run, outcome: RunOutcome) -> dict[str, Any]:
    shown = plain(outcome)
    del shown["retryable"]
    for key in _OMITTED_IF_EMPTY:
        if key in shown and not shown[key]:
            del shown[key]
    shown["run_id"] = str(run.run_id)
    shown["attempts"] = run.attempt
    return shown


def _step_outcome(state: IntentState, step: Step) -> dict[str, Any]:
    """One step of a plan with several steps; its output is in the events."""
    shown: dict[str, Any] = {"name": step.name, "needs": list(step.needs)}
    run = next(reversed(state.runs_of(step.name)), None)
    if run is None or run.outcome is None:
        return shown
    ran = _run_outcome(run, run.outcome)
    return shown | {key: ran[key] for key in _STEP_KEYS if key in ran}


_STEP_KEYS = ("verdict", "exit_code", "signal", "run_id", "attempts", "usage", "artifacts")


def _plan_of(state: IntentState, author: Author) -> dict[str, Any]:
    shown: dict[str, Any] = {"source": state.plan_source, **plain(author)}
    if state.explanation:
        shown["explanation"] = state.explanation
    if state.reused_from is not None:
        shown["reused_from"] = str(state.reused_from)
    return shown
