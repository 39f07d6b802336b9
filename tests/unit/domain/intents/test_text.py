"""Texts in a Unicode normal form, and which of them count as the same."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.intents.text import normalized, text_hash
from domain.planning.wording import difference
from domain.similarity.lexical_embedder import normalise

#: Python needs 90 ms to sort these marks.
_MARKS = "a" + "\u0300" * 3990 + "\u0323" * 4000


@given(st.text())
def test_texts_that_people_write_have_the_usual_form(text: str) -> None:
    assert normalized("NFC", text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("text", ["あ" * 500, "é" * 200, "e\u0301" * 200, "🏳️‍🌈" * 50, "กำ" * 200])
def test_long_texts_without_long_runs_of_marks_are_left_alone(text: str) -> None:
    for form in ("NFC", "NFKC"):
        assert normalized(form, text) == unicodedata.normalize(form, text)


@pytest.mark.parametrize("marks", [_MARKS, "a" + "\u0300\u0323" * 4000, "é" * 20 + _MARKS])
def test_runs_of_marks_take_no_longer_than_other_texts(marks: str) -> None:
    began = time.process_time()
    for _ in range(10):
        text_hash(marks)
        normalise(marks)
        difference(marks, marks[:-1])
    assert (time.process_time() - began) / 10 < 0.1
    assert normalized("NFC", marks) == normalized("NFC", normalized("NFC", marks))
