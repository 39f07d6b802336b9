"""Kept output is valid text that never outgrows its cap in a message."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from domain.contracts.envelope import Envelope
from domain.contracts.job import MAX_STREAM_BYTES, SandboxResult, Verdict
from sandbox_host.run.output import FLOOD_BYTES, CappedStream

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def kept(data: bytes, cap: int) -> CappedStream:
    stream = CappedStream(cap)
    stream.feed(data)
    return stream


@given(st.lists(st.binary(max_size=40)), st.integers(0, 100))
def test_any_bytes_in_any_pieces_become_text_within_the_cap(parts: list[bytes], cap: int) -> None:
    stream = CappedStream(cap)
    for part in parts:
        stream.feed(part)
    text = stream.text()
    assert "\0" not in text
    assert len(to_json(text)) - len('""') <= cap
    whole = b"".join(parts)
    assert stream.total == len(whole)
    if not stream.truncated:
        assert text == whole.decode(errors="replace").replace("\0", REPLACEMENT)


@given(st.text(max_size=60), st.integers(0, 60))
def test_cut_text_is_a_beginning_of_what_was_written(text: str, cap: int) -> None:
    written = text.replace("\0", REPLACEMENT)
    stream = kept(written.encode(), cap)
    assert written.startswith(stream.text())
    assert stream.truncated == (stream.text() != written)


def test_a_code_point_is_never_cut_in_two() -> None:
    assert kept("aé".encode(), 2).text() == "a"
    assert kept("a😀".encode(), 4).text() == "a"


def test_an_unfinished_code_point_at_the_very_end_is_replaced() -> None:
    stream = kept(b"a\xf0\x9f", 10)
    assert (stream.text(), stream.truncated) == ("a" + REPLACEMENT, False)


def test_control_characters_count_with_their_escapes() -> None:
    assert kept(b"\x1b" * 10, 30).text() == "\x1b" * 5
    assert kept(b"\n" * 10, 10).text() == "\n" * 5


def test_two_full_streams_fit_one_message() -> None:
    text = kept(b'\x01\xff\n"' * MAX_STREAM_BYTES, MAX_STREAM_BYTES).text()
    result = SandboxResult(
        run_id=uuid4(),
        intent_id=uuid4(),
        verdict=Verdict.SUCCEEDED,
        stdout=text,
        stderr=text,
        error="x" * 2000,
    )
    envelope = Envelope(
        id="i", source="/s", type="t", tenantid="acme", data=result.model_dump(mode="json")
    )
    assert len(envelope.encode()) > 2 * MAX_STREAM_BYTES * 0.99


@pytest.mark.parametrize(("size", "flooded"), [(FLOOD_BYTES, False), (FLOOD_BYTES + 1, True)])
def test_only_output_far_past_any_use_counts_as_a_flood(size: int, flooded: bool) -> None:
    assert kept(b"x" * size, 10).flooded is flooded
