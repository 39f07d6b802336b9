"""All cases, by family."""

from __future__ import annotations

from tests.evaluation.case import Case
from tests.evaluation.cases import (
    algorithms,
    calculation,
    commands,
    dates,
    errors,
    files,
    parsing,
    steps,
    text,
    transformations,
)

FAMILIES: dict[str, tuple[Case, ...]] = {
    "text": text.CASES,
    "calculation": calculation.CASES,
    "dates": dates.CASES,
    "parsing": parsing.CASES,
    "algorithms": algorithms.CASES,
    "files": files.CASES,
    "commands": commands.CASES,
    "transformations": transformations.CASES,
    "steps": steps.CASES,
    "errors": errors.CASES,
}

CASES: tuple[Case, ...] = tuple(case for family in FAMILIES.values() for case in family)
