"""Named SQL statements."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.database import statements
from domain.database.statements import load_statements

DOMAIN = Path(statements.__file__).parent


def test_statements_are_found_by_name_without_their_semicolon(tmp_path: Path) -> None:
    file = tmp_path / "some.sql"
    file.write_text("-- About.\n\n-- name: one\nselect 1;\n\n-- name: two\n-- why\nselect\n  'é'\n")
    assert load_statements(file) == {"one": b"select 1", "two": "-- why\nselect\n  'é'".encode()}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-- name: one\nselect 1\n-- name: one\nselect 2\n", "'one'"),
        ("select 1;\n-- name: one\nselect 2\n", "before the first"),
    ],
    ids=["a name used twice", "SQL without a name"],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "some.sql"
    file.write_text(text)
    with pytest.raises(ValueError, match=problem):
        load_statements(file)


def test_every_statement_of_the_domain_is_used_and_every_used_one_exists() -> None:
    for file in DOMAIN.rglob("*.sql"):
        if file.parent.name == "migrations":
            continue
        names = load_statements(file).keys()
        modules = [module.read_text() for module in file.parent.glob("*.py")]
        source = "".join(text for text in modules if file.name in text)
        assert names, file
        assert f'"{file.name}"' in source, f"no module loads {file.name}"
        for name in names:
            assert f'"{name}"' in source, f"{file.name}: {name} is not used"
