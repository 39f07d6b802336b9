"""A language model that knows the cases and pairs, for a server that speaks its protocol.

With it the evaluation itself is tested: what must come out is known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from domain.contracts.languages import LANGUAGES
from tests.evaluation.case import Case, Step
from tests.evaluation.cases import CASES
from tests.evaluation.pairs import NEAR_MISSES, PARAPHRASES, REPEATS
from tests.support.openai.chat import Asked, Reply

#: A program that does nothing, and one that fails, in each language.
_NOTHING = {"python": "pass\n", "node": ";\n", "shell": ":\n", "ruby": "nil\n"}
_FAILS = {
    "python": "raise SystemExit('not yet')\n",
    "node": "console.error('not yet'); process.exit(1);\n",
    "shell": "echo not yet >&2; exit 1\n",
    "ruby": "abort 'not yet'\n",
}

_BY_SENTENCE = {case.sentence: case for case in CASES}
_SAME = {(pair.solved, pair.asked): pair.same for pair in (*NEAR_MISSES, *PARAPHRASES, *REPEATS)}


def truthful(solved: str, asked: str) -> bool:
    """Whether the two are a pair that asks for the same."""
    return _SAME.get((solved, asked), False)


def gullible(_solved: str, _asked: str) -> bool:
    """Says yes to everything: the worst model that there can be."""
    return True


@dataclass(frozen=True)
class Oracle:
    """Answers from the references, apart from what it is told to get wrong.

    Attributes:
        repaired: cases whose first program fails and whose repair is right.
        hopeless: cases whose programs all fail.
        mistaken: cases whose program runs and does not do what was asked.
        refused: cases that it will not write a program for.
        same: how it compares two sentences.
    """

    repaired: Collection[str] = ()
    hopeless: Collection[str] = ()
    mistaken: Collection[str] = ()
    refused: Collection[str] = ()
    same: Callable[[str, str], bool] = truthful

    def __call__(self, asked: Asked) -> Reply:
        """The reply to one request; a sentence of no case gets a program that does nothing."""
        data = asked.data
        if asked.schema == "compare":
            equivalent = self.same(data["solved"], data["asked"])
            return Reply({"reason": "It is written down.", "equivalent": equivalent})
        case = _BY_SENTENCE.get(data["request"])
        if case is None:
            return Reply(_plan((Step("main", "shell", ":\n"),)))
        if asked.schema == "repair":
            step = next(step for step in case.plan if step.name == data["step"])
            source = _FAILS[step.language] if case.id in self.hopeless else step.source
            return Reply({"explanation": "Repaired.", **_program(step.language, source)})
        return self._planned(case)

    def _planned(self, case: Case) -> Reply:
        if case.id in self.refused:
            return Reply(refusal="I would rather not.")
        *before, last = case.plan
        source = last.source
        if case.id in (*self.repaired, *self.hopeless):
            source = _FAILS[last.language]
        if case.id in self.mistaken:
            source = _NOTHING[last.language]
        return Reply(_plan([*before, Step(last.name, last.language, source, last.needs)]))


def _plan(steps: Sequence[Step]) -> dict[str, Any]:
    described = [
        {"name": step.name, "needs": list(step.needs), **_program(step.language, step.source)}
        for step in steps
    ]
    return {"explanation": "It does it.", "steps": described, "expected_artifacts": []}


def _program(language: str, source: str) -> dict[str, Any]:
    path = LANGUAGES[language].entrypoint
    files = [{"path": path, "content": source}]
    return {"language": language, "files": files, "entrypoint": path, "args": [], "stdin": None}
