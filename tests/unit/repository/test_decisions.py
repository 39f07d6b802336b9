"""Decision records have one form, and the titles that their index gives them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import ROOT

DECISIONS = ROOT / "docs/decisions"
INDEX = DECISIONS / "README.md"
RECORDS = sorted(set(DECISIONS.glob("*.md")) - {INDEX})

#: The parts of a record, in this order; the last is of founding records alone.
PARTS = ["Context", "Decision", "Rejected", "Consequences", "Extended by"]

#: Parts that a record may lack.
OPTIONAL = {"Rejected", "Extended by"}


def titles() -> dict[str, str]:
    """By the name of a record's file: its number and title in the index."""
    rows = re.findall(r"^\| \[(.+)\]\((.+)\) \| (.+) \|$", INDEX.read_text(), re.MULTILINE)
    return {file: f"{number} {title}" for number, file, title in rows}


def test_the_index_lists_every_record_in_order() -> None:
    assert list(titles()) == [record.name for record in RECORDS]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_record_has_its_title_a_status_with_a_date_and_its_parts(record: Path) -> None:
    heading, _, status, *text = record.read_text().splitlines()
    assert heading == f"# {titles()[record.name]}"
    assert record.name.startswith(heading.split()[1].removeprefix("ADR-") + "-")
    assert re.match(r"Status: \w+, .*\b20\d\d-\d\d-\d\d\b", status)
    found = re.findall(r"^(?:\*\*|#+ )(\w[^*.]*?)\.?(?:\*\*|$)", "\n".join(text), re.MULTILINE)
    assert found == [part for part in PARTS if part in found or part not in OPTIONAL]
