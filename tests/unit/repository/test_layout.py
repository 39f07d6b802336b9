"""Helpers are in `tests.support`, no test module is imported, and folders mirror the packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

TESTS = ROOT / "tests"

#: Programs with tests of their own, the table of hostile programs, and what all tests share.
_HOLD_MORE = ("benchmarks", "evaluation", "recorded_events", "hostile/programs", "support")

MODULES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("*.py"))


def imported_by(module: Path) -> Iterator[str]:
    """The full names of modules of tests that a module imports, and of what it takes from them."""
    for node in ast.walk(ast.parse((TESTS / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "name it in full"
            yield from (f"{node.module}.{each.name}" for each in node.names)


def is_test(part: str) -> bool:
    return part == "conftest" or part.startswith("test_")


def test_nothing_imports_a_test_module_or_a_conftest() -> None:
    found = [
        (str(module), name)
        for module in MODULES
        for name in imported_by(module)
        if name.startswith("tests.") and any(map(is_test, name.split(".")))
    ]
    assert not found, "move what they share to tests/support"


def test_helpers_import_no_folder_of_tests() -> None:
    found = [
        (str(module), name)
        for module in MODULES
        if module.parts[0] == "support"
        for name in imported_by(module)
        if name.startswith("tests.") and not name.startswith("tests.support")
    ]
    assert not found


def test_helpers_are_in_support() -> None:
    found = [
        str(module)
        for module in MODULES
        if not any(module.is_relative_to(folder) for folder in _HOLD_MORE)
        and not is_test(module.stem)
        and module.stem != "__init__"
    ]
    assert not found, "move them to tests/support"


@pytest.mark.parametrize("kind", ["unit", "integration"])
def test_folders_mirror_those_of_the_repository(kind: str) -> None:
    folders = {module.parent for module in MODULES if module.parts[0] == kind}
    mirrored = {folder.relative_to(kind) for folder in folders} - {Path("repository")}
    assert len(mirrored) > 10
    assert not [str(folder) for folder in mirrored if not (ROOT / folder).is_dir()]
