"""An answer of endless lines is refused, and one of many events is read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain.planning.wire import AnswerTooLong, PartialAnswer, read_answer
from tests.support.cpu_time import quickly

#: CPU time; idle machines need a fifth. Before there were bounds it was seconds.
_CPU_SECONDS = 0.5

_CHUNK = 64 * 1024


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b":\n", b"data: 1\n"])
async def test_endless_lines_are_refused(line: bytes) -> None:
    with quickly(_CPU_SECONDS), pytest.raises(AnswerTooLong, match="more than 68000 lines"):
        await read_answer(in_chunks(line * (3 * 1024**2 // len(line))), PartialAnswer(), 8_000)


async def test_an_answer_may_have_an_event_for_every_token_asked_for() -> None:
    event = b'event: chunk\r\nid: 1\r\ndata: {"choices": [{"delta": {"content": "a"}}]}\r\n\r\n'
    said = PartialAnswer()
    await read_answer(in_chunks(event * 2_000 + b"data: [DONE]\r\n\r\n"), said, 2_000)
    assert said.text == "a" * 2_000


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _CHUNK):
        yield body[start : start + _CHUNK]
