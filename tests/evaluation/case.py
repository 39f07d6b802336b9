"""What an evaluated intent is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["easy", "medium", "hard"]


@dataclass(frozen=True, slots=True)
class Output:
    """What a program left: its standard output, and its artifacts by name."""

    stdout: str = ""
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


#: What is wrong with an output, in a sentence; None where it is right.
Checker = Callable[[Output], str | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One program of the reference plan, and the steps whose artifacts it gets."""

    name: str
    language: str
    source: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One sentence whose right answer is known.

    Attributes:
        id: unique, and kept when the sentence is reworded, so that reports can be compared.
        level: how hard it is to get right at the first attempt.
        sentence: as a user would write it; all the data that it needs is in it.
        plan: a reference: what a good planner could have written.
        right: says what is wrong with an output.
        wrong: outputs of plausible mistakes, which ``right`` must refuse.
    """

    id: str
    level: Level
    sentence: str
    plan: tuple[Step, ...]
    right: Checker
    wrong: tuple[Output, ...]


def python(source: str) -> tuple[Step, ...]:
    """A plan of one Python program."""
    return (Step("main", "python", source),)


def node(source: str) -> tuple[Step, ...]:
    """A plan of one program for Node."""
    return (Step("main", "node", source),)


def shell(source: str) -> tuple[Step, ...]:
    """A plan of one shell script."""
    return (Step("main", "shell", source),)


def ruby(source: str) -> tuple[Step, ...]:
    """A plan of one Ruby program."""
    return (Step("main", "ruby", source),)


def said(*texts: str) -> tuple[Output, ...]:
    """Outputs that are only text."""
    return tuple(Output(text) for text in texts)


def left(*files: Mapping[str, bytes | str]) -> tuple[Output, ...]:
    """Outputs that are only artifacts."""
    return tuple(
        Output("", {name: _bytes(content) for name, content in each.items()}) for each in files
    )


def _bytes(content: bytes | str) -> bytes:
    return content if isinstance(content, bytes) else content.encode()
