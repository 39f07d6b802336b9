"""Loads prompts from files that carry a version, so that each answer can be traced to one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).with_name("prompts")
_FILE = re.compile(r"---\nversion: ([1-9]\d*)\n---\n(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One file of ``prompts/``.

    Attributes:
        version: changes with every change of the text; see ``tests/unit/domain/planning``.
        text: the system message; what people or programs said is never part of it.
    """

    name: str
    version: int
    text: str

    @property
    def label(self) -> str:
        """The name and version as they are recorded, such as ``plan@1``."""
        return f"{self.name}@{self.version}"


@cache
def load_prompt(name: str, folder: Path = _FOLDER) -> Prompt:
    """The prompt ``name``.

    Raises:
        ValueError: the file does not begin with its version.
    """
    parts = _FILE.fullmatch((folder / f"{name}.md").read_text("utf-8").replace("\r\n", "\n"))
    if parts is None:
        raise ValueError(f"{name}.md: must begin with lines '---', 'version: N', '---'")
    return Prompt(name, int(parts[1]), parts[2].strip())
