"""Live output is valid text in order, bounded, and repeated unchanged until it has arrived."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.contracts.heartbeat import MAX_CHUNK_CHARACTERS, MAX_CHUNKS, MAX_LIVE_CHARACTERS
from sandbox_host.host.live_output import CHUNKS_AT_ONCE, LiveOutput


def taken(output: LiveOutput) -> dict[str, str]:
    """All there is, by stream, delivered chunk by chunk."""
    texts = {"stdout": "", "stderr": ""}
    expected = 0
    while chunks := output.chunks():
        for chunk in chunks:
            assert chunk.seq == expected
            expected += 1
            texts[chunk.stream] += chunk.text
        output.delivered()
    return texts


def test_what_was_not_delivered_is_handed_out_again_unchanged() -> None:
    output = LiveOutput()
    output.feed("stdout", b"one")
    first = output.chunks()
    output.feed("stdout", b" two")
    assert output.chunks() == first
    output.delivered()
    assert [(chunk.seq, chunk.text) for chunk in output.chunks()] == [(1, " two")]


def test_a_character_cut_between_reads_stays_whole() -> None:
    output = LiveOutput()
    output.feed("stdout", "é".encode()[:1])
    assert output.chunks() == ()
    output.feed("stdout", "é".encode()[1:])
    assert [chunk.text for chunk in output.chunks()] == ["é"]


def test_the_streams_do_not_disturb_each_others_characters() -> None:
    output = LiveOutput()
    output.feed("stdout", "é".encode()[:1])
    output.feed("stderr", b"error")
    output.feed("stdout", "é".encode()[1:])
    assert taken(output) == {"stdout": "é", "stderr": "error"}


def test_nul_and_invalid_bytes_are_replaced() -> None:
    output = LiveOutput()
    output.feed("stdout", b"a\0b\xffc")
    assert taken(output)["stdout"] == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"


def test_a_flood_is_bounded_in_memory_and_in_all_that_is_ever_sent() -> None:
    output = LiveOutput()
    for _ in range(100):
        output.feed("stdout", b"x" * 65536)
        output.feed("stderr", b"y" * 65536)
    sent = taken(output)
    assert len(sent["stdout"]) + len(sent["stderr"]) == MAX_LIVE_CHARACTERS
    output.feed("stdout", b"more")
    assert output.chunks() == ()


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=9000))))
def test_chunks_keep_within_the_contract_whatever_is_printed(
    pieces: list[tuple[str, bytes]],
) -> None:
    output, printed = LiveOutput(), {"stdout": b"", "stderr": b""}
    for stream, data in pieces:
        output.feed(stream, data)  # type: ignore[arg-type]
        printed[stream] += data
    total = {"stdout": "", "stderr": ""}
    while chunks := output.chunks():
        assert len(chunks) <= CHUNKS_AT_ONCE <= MAX_CHUNKS
        for chunk in chunks:
            assert 1 <= len(chunk.text) <= MAX_CHUNK_CHARACTERS
            total[chunk.stream] += chunk.text
        output.delivered()
    if sum(map(len, printed.values())) <= MAX_LIVE_CHARACTERS:
        for stream, data in printed.items():
            whole = data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
            assert whole.startswith(total[stream])
            assert len(whole) - len(total[stream]) <= 1
