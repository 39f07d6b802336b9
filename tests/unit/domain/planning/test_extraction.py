"""A hostile answer costs little CPU time, and words around an answer are passed over."""

from __future__ import annotations

import json

import pytest

from domain.planning.answers import MAX_ANSWER_BYTES
from domain.planning.extraction import objects_in
from tests.support.cpu_time import quickly

#: CPU time; idle machines need a fifth. Before there were bounds it was seconds.
_CPU_SECONDS = 0.5


@pytest.mark.parametrize(
    ("opened", "piece"),
    [
        *((0, piece) for piece in ("[],", "{} ", '["', '{"a":', "[1,")),
        *((100, piece) for piece in ("[],", '{"a":1},', "9" * 4300 + ",")),
    ],
)
def test_unclosed_brackets_are_scanned_quickly(opened: int, piece: str) -> None:
    text = "[" * opened + piece * ((MAX_ANSWER_BYTES - opened) // len(piece))
    with quickly(_CPU_SECONDS):
        assert list(objects_in(text, ["steps"])) == []


def test_an_unclosed_string_is_scanned_quickly() -> None:
    with quickly(_CPU_SECONDS):
        assert list(objects_in("[" * 100 + '"' + "a" * MAX_ANSWER_BYTES, ["steps"])) == []


def test_countless_line_ends_in_strings_are_escaped_quickly() -> None:
    text = '{"steps":"\n"' + ',"a":"\n"' * (MAX_ANSWER_BYTES // 9) + "}"
    with quickly(_CPU_SECONDS):
        assert len(list(objects_in(text, ["steps"]))) == 1


def test_text_before_and_after_reasoning_is_scanned_quickly() -> None:
    half = "[" * 60 + "[]," * (MAX_ANSWER_BYTES // 6)
    with quickly(_CPU_SECONDS):
        assert list(objects_in(f"{half}</think>{half}", ["steps"])) == []


def test_an_answer_is_found_among_many_words_and_an_invalid_draft() -> None:
    answer = json.dumps({"steps": [{"content": "x[0] = {1: [2]}\n" * 20_000}]})
    draft = '{"steps": [' + '{"content": "a"}, ' * 2_000 + "]}"
    words = "first {x} of [items], then f(a[0])[1] " * 20
    assert list(objects_in(f"{words}\n{draft}\n```json\n{answer}\n```", ["steps"])) == [answer]
