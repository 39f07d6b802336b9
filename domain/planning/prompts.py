"""The three requests to a language model, and what goes into them.

Whatever people wrote and programs printed goes in as data: in named fields, cut to a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domain.contracts.languages import LANGUAGES
from domain.intents.content import Program
from domain.intents.event_parts import PlannedStep
from domain.intents.state import IntentState, Run
from domain.planning.answers import (
    CompareAnswer,
    PlanAnswer,
    RepairAnswer,
    recorded_explanation,
)
from domain.planning.model_request import ModelRequest
from domain.planning.prompt_files import load_prompt
from domain.planning.solved import Solved

PLAN, REPAIR, COMPARE = map(load_prompt, ("plan", "repair", "compare"))

#: How many examples a model is shown, and the characters of each one's sentence and programs.
MAX_EXAMPLES = 3
MAX_EXAMPLE_CHARACTERS = 4_000

#: How much is kept of the end of what a failed program printed, characters.
_TAILS = {"stdout": 2_000, "stderr": 4_000}

Written = tuple[tuple[PlannedStep, ...], tuple[str, ...], str | None]
RepairedProgram = tuple[Program, str | None]


def plan_request(
    state: IntentState, examples: Sequence[Solved]
) -> ModelRequest[PlanAnswer, Written]:
    """Asks for steps, expected artifacts and an explanation for an intent."""
    data = {
        "request": state.content.text,
        "languages": sorted(LANGUAGES),
        "examples": [_example(each) for each in examples],
    }
    return ModelRequest("plan", PLAN, data, PlanAnswer, _plan_meant)


def repair_request(state: IntentState, failed: Run) -> ModelRequest[RepairAnswer, RepairedProgram]:
    """Asks for a new program, and its explanation, for the step whose run ``failed``.

    Raises:
        ValueError: the plan does not have the run's step, or the run has not ended.
    """
    step, outcome = state.step(failed.step), failed.outcome
    if step is None or outcome is None:
        raise ValueError(f"intent {state.id}: there is nothing to repair")
    data = {
        "request": state.content.text,
        "step": step.name,
        "needs": step.needs,
        "languages": sorted(LANGUAGES),
        "program": _program(step.program),
        "run": {
            "verdict": outcome.verdict,
            "exit_code": outcome.exit_code,
            "signal": outcome.signal,
            **{name: _tail(getattr(outcome, name), most) for name, most in _TAILS.items()},
            "left": [artifact.name for artifact in outcome.artifacts],
            "missing": step.missing_from(outcome) if failed.succeeded else (),
        },
    }
    return ModelRequest("repair", REPAIR, data, RepairAnswer, _repair_meant)


def compare_request(solved: str, asked: str) -> ModelRequest[CompareAnswer, bool]:
    """Asks whether two sentences ask for the same."""
    data = {"solved": solved, "asked": asked}
    return ModelRequest("compare", COMPARE, data, CompareAnswer, lambda answer: answer.equivalent)


def fits(example: Solved) -> bool:
    """Whether an example is small enough to be shown whole; half a program is no example."""
    program = sum(
        len(file.content) + len(file.path) for step in example.steps for file in step.program.files
    )
    return len(example.text) + program <= MAX_EXAMPLE_CHARACTERS


def _plan_meant(answer: PlanAnswer) -> Written:
    return answer.planned(), answer.artifacts(), recorded_explanation(answer.explanation)


def _repair_meant(answer: RepairAnswer) -> RepairedProgram:
    return answer.program(), recorded_explanation(answer.explanation)


def _example(solved: Solved) -> dict[str, Any]:
    steps = [
        {"name": step.name, "needs": step.needs, **_program(step.program)} for step in solved.steps
    ]
    return {"request": solved.text, "steps": steps}


def _program(program: Program) -> dict[str, Any]:
    files = [
        {"path": file.path, "content": file.content}
        if file.encoding == "utf-8"
        else {"path": file.path, "binary_bytes": len(file.content) * 3 // 4}
        for file in program.files
    ]
    return {
        "language": program.language,
        "files": files,
        "entrypoint": program.entrypoint,
        "args": program.args,
        "stdin": program.stdin or None,
    }


def _tail(text: str, most: int) -> str:
    return text if len(text) <= most else f"(the beginning is left out) {text[-most:]}"
