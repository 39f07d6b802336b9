"""A prompt's text cannot change under the version that events record."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from domain.planning import prompt_files
from domain.planning.prompt_files import load_prompt

#: Every version there was, with the SHA-256 of its text. Add a line for a new version; change none.
TEXTS = {
    "compare@1": "d0b7b29784e3a19fa3df4b3bfe535d6b7a007173198f50c09e23e07fc25e2ebf",
    "plan@1": "b600ee806531f309de411f06d45010e787635ce5d629c90333a4dec717614305",
    "repair@1": "038b9e1e4147a4821f0a248db2e063dfbd2d483bcdf76380aa3e730bc9e4a262",
}

FILES = sorted(path.stem for path in Path(prompt_files.__file__).with_name("prompts").glob("*.md"))


@pytest.mark.parametrize("name", FILES)
def test_a_changed_text_needs_a_new_version(name: str) -> None:
    prompt = load_prompt(name)
    digest = hashlib.sha256(prompt.text.encode()).hexdigest()
    assert TEXTS.get(prompt.label) == digest, (
        f"{name}.md has changed: count its version up, and add it to TEXTS with {digest}"
    )


def test_a_file_without_a_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.md").write_text("You write programs.")
    with pytest.raises(ValueError, match="version"):
        load_prompt("plan", tmp_path)


def test_models_are_told_how_programs_run() -> None:
    for name in ("plan", "repair"):
        text = load_prompt(name).text
        for needed in ("No network", "OUT_DIR", "inputs/STEP/NAME", "data"):
            assert needed in text, (name, needed)
