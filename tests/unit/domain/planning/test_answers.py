"""What a language model may answer: plans and programs, within the bounds that clients have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from domain.intents.content import MAX_CONTENT_BYTES, MAX_FILES, Limits
from domain.planning.answers import (
    MAX_STEPS,
    CompareAnswer,
    InvalidAnswer,
    PlanAnswer,
    RepairAnswer,
    recorded_explanation,
    schema_of,
)
from tests.support.openai.chat import program, repaired, step
from tests.support.openai.rules import what_is_not_strict


def planned(*steps: dict[str, Any], artifacts: tuple[str, ...] = ()) -> PlanAnswer:
    answer = {"explanation": "", "steps": steps, "expected_artifacts": artifacts}
    return PlanAnswer.model_validate_json(json.dumps(answer))


def file(path: str) -> dict[str, str]:
    return {"path": path, "content": ""}


def names(answer: PlanAnswer) -> list[str]:
    return [each.name for each in answer.planned()]


@pytest.mark.parametrize("form", [PlanAnswer, RepairAnswer, CompareAnswer])
def test_the_schemas_are_strict(form: type[PlanAnswer]) -> None:
    assert what_is_not_strict(schema_of(form)) is None


def test_only_languages_that_exist_are_offered_and_accepted() -> None:
    assert "cobol" not in json.dumps(schema_of(PlanAnswer))
    with pytest.raises(InvalidAnswer, match=r"language: must be one of node, python"):
        planned(step("x", language="cobol")).planned()


def test_a_program_has_no_limits_and_no_environment() -> None:
    [only] = planned(*program("print(1)")["steps"]).planned()
    assert only.program.limits == Limits()
    assert only.program.environment == {}
    with pytest.raises(ValidationError):
        planned(step("print(1)", limits={"wall_seconds": 300}))
    with pytest.raises(ValidationError):
        planned(step("print(1)", environment={"LD_PRELOAD": "x"}))


def test_steps_come_after_those_they_need_and_the_last_stays_the_last() -> None:
    a, b, c = step("1", "a", needs=("b",)), step("1", "b"), step("1", "c", needs=("a", "b"))
    assert names(planned(a, b, c)) == ["b", "a", "c"]
    assert names(planned(step("1", "a", needs=("b",)), step("1", "b"), step("1", "z"))) == [
        *("b", "a", "z")
    ]


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([], "allowed are 1 to 8"),
        ([step("1", f"s{n}") for n in range(MAX_STEPS + 1)], "allowed are 1 to 8"),
        ([step("1", f"s{n}") for n in range(10_000)], "allowed are 1 to 8"),
        ([step("1", "a"), step("2", "a")], "same name"),
        ([step("1", "a", needs=("gone",)), step("2", "b")], "needs 'gone'"),
        ([step("1", "a", needs=("b",)), step("2", "b", needs=("a",))], "last"),
        ([step("1", "a", needs=("a",)), step("2", "b")], "circle"),
        (
            [step("1", "a", needs=("b",)), step("2", "b", needs=("a",)), step("3", "c")],
            "circle",
        ),
        ([step("1", "../up")], "a name has"),
        ([step("1", "A")], "a name has"),
        ([step("1", "a", files=[file("../main.py")])], "relative path"),
        ([step("1", "a", files=[file("/etc/passwd")])], "relative path"),
        ([step("1", "a", files=[file("a\x00b")])], "relative path"),
        ([step("a\x00b", "a")], "NUL"),
        ([step("1", "a", stdin="\x00")], "NUL"),
        ([step("1", "a", entrypoint="other.py")], "not among the files"),
        ([step("1", "a", files=[])], "files"),
        ([step("1", "a", args=["x"] * 65)], "args"),
        ([step("1", "a", files=[file(f"f{n}") for n in range(MAX_FILES + 1)])], "files"),
        ([step("x" * MAX_CONTENT_BYTES, "a")], "the limit is"),
        (
            [step("x" * (MAX_CONTENT_BYTES // 2), "a"), step("x" * (MAX_CONTENT_BYTES // 2), "b")],
            "together",
        ),
        (
            [step("1", "a", entrypoint="m", files=[file("m"), file("inputs/a/x")])],
            "inputs/ is for",
        ),
    ],
)
def test_a_wrong_plan_is_refused_with_the_reason(steps: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(InvalidAnswer, match=problem) as raised:
        planned(*steps).planned()
    assert len(str(raised.value)) < 1_000


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "", "a\nb", "x" * 256])
def test_expected_artifacts_are_names_of_files(name: str) -> None:
    with pytest.raises(InvalidAnswer, match="expected_artifacts"):
        planned(step("1"), artifacts=(name,)).artifacts()


def test_expected_artifacts_are_few_and_named_once() -> None:
    assert planned(step("1"), artifacts=("a.png", "a.png")).artifacts() == ("a.png",)
    with pytest.raises(InvalidAnswer, match="allowed are 16"):
        planned(step("1"), artifacts=tuple(f"{n}.png" for n in range(17))).artifacts()


def test_a_repaired_program_has_the_same_bounds() -> None:
    answer = RepairAnswer.model_validate(repaired("print(2)"))
    assert answer.program().files[0].content == "print(2)"
    with pytest.raises(InvalidAnswer, match="not among"):
        RepairAnswer.model_validate({**repaired(""), "entrypoint": "x.py"}).program()


@pytest.mark.parametrize("said", ['{"reason":"", "equivalent":"yes"}', '{"equivalent":1}', "[]"])
def test_only_the_value_true_counts_as_yes(said: str) -> None:
    with pytest.raises(ValidationError):
        CompareAnswer.model_validate_json(said)


def test_explanations_are_cut() -> None:
    assert recorded_explanation(" a\x00b ") == "ab"
    assert recorded_explanation("") is None
    assert len(recorded_explanation("x" * 10_000) or "") == 2_000
