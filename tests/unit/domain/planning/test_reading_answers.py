"""What a provider can make of an answer costs little, and honest words around JSON nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from domain.planning.answers import MAX_ANSWER_BYTES
from domain.planning.extraction import objects_in
from domain.planning.wire import AnswerTooLong, PartialAnswer, read_answer
from tests.support.cpu_time import quickly

#: CPU time; idle machines need a fifth. Before there were bounds it was seconds.
_CPU_SECONDS = 0.5

_CHUNK = 64 * 1024


@pytest.mark.parametrize(
    ("opened", "piece"),
    [
        *((0, piece) for piece in ("[],", "{} ", '["', '{"a":', "[1,")),
        *((100, piece) for piece in ("[],", '{"a":1},', "9" * 4300 + ",")),
    ],
)
def test_brackets_that_nobody_closes_are_looked_at_briefly(opened: int, piece: str) -> None:
    text = "[" * opened + piece * ((MAX_ANSWER_BYTES - opened) // len(piece))
    with quickly(_CPU_SECONDS):
        assert list(objects_in(text, ["steps"])) == []


def test_a_string_that_nobody_closes_is_looked_at_briefly() -> None:
    with quickly(_CPU_SECONDS):
        assert list(objects_in("[" * 100 + '"' + "a" * MAX_ANSWER_BYTES, ["steps"])) == []


def test_line_ends_in_strings_without_number_are_escaped_briefly() -> None:
    text = '{"steps":"\n"' + ',"a":"\n"' * (MAX_ANSWER_BYTES // 9) + "}"
    with quickly(_CPU_SECONDS):
        assert len(list(objects_in(text, ["steps"]))) == 1


def test_what_stands_before_and_after_reasoning_is_looked_at_briefly() -> None:
    half = "[" * 60 + "[]," * (MAX_ANSWER_BYTES // 6)
    with quickly(_CPU_SECONDS):
        assert list(objects_in(f"{half}</think>{half}", ["steps"])) == []


def test_an_answer_is_found_among_many_words_and_a_draft_that_is_no_json() -> None:
    answer = json.dumps({"steps": [{"content": "x[0] = {1: [2]}\n" * 20_000}]})
    draft = '{"steps": [' + '{"content": "a"}, ' * 2_000 + "]}"
    words = "first {x} of [items], then f(a[0])[1] " * 20
    assert list(objects_in(f"{words}\n{draft}\n```json\n{answer}\n```", ["steps"])) == [answer]


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b":\n", b"data: 1\n"])
async def test_lines_without_end_are_not_taken(line: bytes) -> None:
    with quickly(_CPU_SECONDS), pytest.raises(AnswerTooLong, match="more than 68000 lines"):
        await read_answer(in_chunks(line * (3 * 1024**2 // len(line))), PartialAnswer(), 8_000)


async def test_an_answer_of_as_many_tokens_as_asked_for_may_name_each_event() -> None:
    event = b'event: chunk\r\nid: 1\r\ndata: {"choices": [{"delta": {"content": "a"}}]}\r\n\r\n'
    said = PartialAnswer()
    await read_answer(in_chunks(event * 2_000 + b"data: [DONE]\r\n\r\n"), said, 2_000)
    assert said.text == "a" * 2_000


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _CHUNK):
        yield body[start : start + _CHUNK]
