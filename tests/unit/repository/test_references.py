"""What the documents name is there: tests by file and name, and pages they link to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.documents import PAGES, ids


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_named_tests_exist(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text()):
        source = (ROOT / file).read_text()
        assert re.search(rf"^(?:async )?def {name}\(", source, re.MULTILINE), f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_linked_pages_and_sections_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text()), target


#: Paths of the repository in code spans: with a folder of it in front, as pages write them.
PATHS = re.compile(r"`((?:domain|functions|sandbox_host|infra|tests|docs|\.github|\.ci)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_named_files_and_folders_exist(page: Path) -> None:
    assert not [path for path in PATHS.findall(page.read_text()) if not (ROOT / path).exists()]


@pytest.mark.parametrize(
    ("package", "following"), [("domain", "sandbox_host"), ("sandbox_host", "infra/terraform")]
)
def test_the_picture_of_the_architecture_is_the_one_that_lint_enforces(
    package: str, following: str
) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each.get("containers") == [package])
    rank = {
        name: number
        for number, layer in enumerate(contract["layers"])
        for name in layer.split(" | ")
        if name != "__main__"
    }
    picture = (ROOT / "docs/architecture.md").read_text().partition(f"\n{package}/ ")[2]
    picture = picture.partition(f"\n{following}/ ")[0]
    drawn = re.findall(r"^  (\w+)(?:/|\.py) ", picture, re.MULTILINE)
    assert sorted(drawn) == sorted(rank)
    assert drawn == sorted(drawn, key=lambda name: rank[name])


def anchors(text: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}
