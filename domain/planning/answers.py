"""What a language model may answer: the forms it is asked for, and what they are converted to.

The classes are plain, so that strict structured outputs accept their schema: every property is
required, and there are no bounds. The bounds of clients' programs are checked afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from domain.contracts.job import INPUTS_FOLDER
from domain.contracts.languages import LANGUAGES
from domain.intents.content import MAX_CONTENT_BYTES, Path, Program
from domain.intents.event_parts import PlannedStep
from domain.intents.struct import checked

#: The most bytes of an answer. Its programs take up to `MAX_CONTENT_BYTES`, twice that as JSON.
MAX_ANSWER_BYTES = 512 * 1024

#: The most values and keys in an answer; a plan with all that its steps may have holds half.
MAX_ANSWER_NODES = 8_000

MAX_STEPS = 8
MAX_EXPECTED_ARTIFACTS = 16
MAX_EXPLANATION = 2_000

_STEP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_ARTIFACT = TypeAdapter(Path)

LanguageName = Annotated[str, Field(json_schema_extra={"enum": sorted(LANGUAGES)})]


class InvalidAnswer(ValueError):
    """The answer does not have the form that was asked for; the model is told the message, too."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WrittenFile(_Answer):
    """A file of a program, as text."""

    path: str
    content: str


class WrittenProgram(_Answer):
    """A program as a model writes it: without limits and environment, which it must not set."""

    language: LanguageName
    files: Annotated[list[WrittenFile], FailFast()]
    entrypoint: str
    args: Annotated[list[str], FailFast()]
    stdin: str | None

    def program(self) -> Program:
        """The program, checked against the bounds of clients' programs.

        Raises:
            InvalidAnswer: it is out of bounds.
        """
        if self.language not in LANGUAGES:
            raise InvalidAnswer(f"language: must be one of {', '.join(sorted(LANGUAGES))}")
        described = self.model_dump(include={"language", "files", "entrypoint", "args"})
        try:
            program = checked(Program, {**described, "stdin": self.stdin or ""})
        except ValidationError as error:
            raise InvalidAnswer(describe(error)) from None
        if any(file.path.split("/")[0] == INPUTS_FOLDER for file in program.files):
            raise InvalidAnswer(f"files: {INPUTS_FOLDER}/ is for the files of other steps")
        if (size := len(msgspec.json.encode(program))) > MAX_CONTENT_BYTES:
            raise InvalidAnswer(f"takes {size} bytes as JSON, the limit is {MAX_CONTENT_BYTES}")
        return program


class RepairAnswer(WrittenProgram):
    """The answer to the prompt ``repair``."""

    explanation: str


class WrittenStep(WrittenProgram):
    """A step of a plan."""

    name: str
    needs: Annotated[list[str], FailFast()]


class PlanAnswer(_Answer):
    """The answer to the prompt ``plan``."""

    explanation: str
    steps: Annotated[list[WrittenStep], FailFast()]
    expected_artifacts: Annotated[list[str], FailFast()]

    def planned(self) -> tuple[PlannedStep, ...]:
        """The steps, each after those it needs; the last one is the one whose result counts.

        Raises:
            InvalidAnswer: they are not a plan; names the step and what is wrong.
        """
        if not 1 <= len(self.steps) <= MAX_STEPS:
            raise InvalidAnswer(f"steps: {len(self.steps)}, allowed are 1 to {MAX_STEPS}")
        ordered = _in_order(self.steps)
        planned = tuple(_planned(step) for step in ordered)
        if (size := sum(len(msgspec.json.encode(step)) for step in planned)) > (MAX_CONTENT_BYTES):
            raise InvalidAnswer(
                f"steps: take {size} bytes as JSON together, the limit is {MAX_CONTENT_BYTES}"
            )
        return planned

    def artifacts(self) -> tuple[str, ...]:
        """Names of the files that the last step is to leave.

        Raises:
            InvalidAnswer: too many, or not names of files.
        """
        names = tuple(dict.fromkeys(self.expected_artifacts))
        if len(names) > MAX_EXPECTED_ARTIFACTS:
            raise InvalidAnswer(
                f"expected_artifacts: {len(names)}, allowed are {MAX_EXPECTED_ARTIFACTS}"
            )
        try:
            return tuple(map(_ARTIFACT.validate_python, names))
        except ValidationError as error:
            raise InvalidAnswer(f"expected_artifacts: {describe(error)}") from None


class CompareAnswer(_Answer):
    """The answer to the prompt ``compare``."""

    reason: str
    equivalent: bool


def recorded_explanation(explanation: str) -> str | None:
    """An explanation as it is recorded: cut, and without NUL."""
    return explanation.replace("\x00", "").strip()[:MAX_EXPLANATION] or None


def schema_of(answer: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of an answer, as strict structured outputs take it."""
    return answer.model_json_schema()


def describe(error: ValidationError) -> str:
    """The first few problems, each with where it is; never the values, which may be large."""
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))[:100] or 'answer'}: "
        + each["msg"].removeprefix("Value error, ")[:200]
        for each in error.errors(include_input=False, include_url=False)[:5]
    )


def _planned(step: WrittenStep) -> PlannedStep:
    if not _STEP_NAME.fullmatch(step.name):
        raise InvalidAnswer(
            f"step {step.name[:40]!r}: a name has 1 to 32 lower-case letters, digits, '-' and '_'"
        )
    try:
        program = step.program()
    except InvalidAnswer as error:
        raise InvalidAnswer(f"step {step.name!r}: {error}") from None
    return PlannedStep(name=step.name, program=program, needs=tuple(dict.fromkeys(step.needs)))


def _in_order(steps: Sequence[WrittenStep]) -> list[WrittenStep]:
    """The steps, each after those it needs, otherwise as they were; the last one stays the last."""
    names = [step.name for step in steps]
    if len(set(names)) != len(names):
        raise InvalidAnswer("steps: two have the same name")
    for step in steps:
        if unknown := set(step.needs) - set(names):
            raise InvalidAnswer(f"step {step.name[:40]!r}: needs {min(unknown)[:40]!r}, no step")
        if names[-1] in step.needs and step.name != names[-1]:
            raise InvalidAnswer(
                f"step {step.name[:40]!r}: needs the last step, whose result is the plan's; "
                "put the step whose result counts last"
            )
    ordered: list[WrittenStep] = []
    waiting = list(steps)
    while waiting:
        done = {step.name for step in ordered}
        ready = next((step for step in waiting if done.issuperset(step.needs)), None)
        if ready is None:
            raise InvalidAnswer("steps: some need one another in a circle")
        ordered.append(ready)
        waiting.remove(ready)
    return _last(ordered, names[-1])


def _last(ordered: list[WrittenStep], name: str) -> list[WrittenStep]:
    """With the step ``name``, which no other needs, at the end."""
    return sorted(ordered, key=lambda step: step.name == name)
