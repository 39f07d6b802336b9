"""Tables: nothing that somebody may want to copy is wrapped or cut."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from domain.operations.cli.table import table_lines

ID = "intent-0199c0de-0000-7000-8000-000000000001"
WORDS = "the sandbox host has not answered for ten minutes, and the run is asked for again"
ROWS = [("stream", "state", "reason"), (ID, "failed", WORDS), (ID, "running", "")]


def test_without_a_terminal_each_row_is_a_line_whatever_its_length() -> None:
    lines = table_lines([*ROWS, (ID, "x" * 500, "y")])
    assert len(lines) == 4
    assert lines[1].split("  ")[0] == ID
    assert lines[3].count("x") == 500
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize("width", [1, 40, 80, 100, 200])
def test_on_a_terminal_sentences_are_folded_and_ids_never(width: int) -> None:
    lines = table_lines(ROWS, width)
    assert sum(ID in line for line in lines) == 2
    told = [line[len(ID) + 11 :].strip() for line in lines if line[len(ID) + 9 :].strip()]
    assert " ".join(told[1:]) == WORDS
    if width >= len(ID) + 11 + 30:
        assert max(map(len, lines)) <= width


def test_an_id_within_a_sentence_stays_whole() -> None:
    rows = [("what",), (f"the run of {ID} is asked for again, because its host has died",)]
    assert any(ID in line for line in table_lines(rows, 20))


def test_columns_of_wide_characters_stand_under_one_another() -> None:
    lines = table_lines([("a", "b"), ("日本語", "x"), ("é", "x")])
    assert {cell_len(line.partition("x")[0]) for line in lines[1:]} == {8}


def test_a_cell_of_several_lines_takes_one() -> None:
    assert table_lines([("a\nb", "c")]) == ["a\\nb  c"]
