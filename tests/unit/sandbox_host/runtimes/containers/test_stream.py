"""Framed output reaches the right stream, however the network cuts it."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import threading

from hypothesis import given
from hypothesis import strategies as st

from sandbox_host.run.output import CappedStream
from sandbox_host.runtimes.containers import agent
from sandbox_host.runtimes.containers.stream import Demultiplexer, Withheld

FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=30)))


@given(FRAMES, st.integers(1, 20))
def test_frames_cut_anywhere_reach_their_streams(frames: list[tuple[int, bytes]], cut: int) -> None:
    wire = b"".join(struct.pack(">BxxxL", n, len(data)) + data for n, data in frames)
    streams = {1: CappedStream(10_000), 2: CappedStream(10_000)}
    sorter = Demultiplexer({number: stream.feed for number, stream in streams.items()})
    for start in range(0, len(wire), cut):
        sorter.feed(wire[start : start + cut])
    for number, stream in streams.items():
        expected = b"".join(data for n, data in frames if n == number)
        assert stream.total == len(expected)
        assert stream.text() == expected.decode(errors="replace").replace("\0", "\ufffd")


@given(st.binary(max_size=40), st.integers(1, 7))
def test_the_end_mark_is_told_from_the_output_before_it(output: bytes, cut: int) -> None:
    out: list[bytes] = []
    stream = Withheld(b"\0", 3, out.append)
    wire = output + b"\0\xff\xf7"
    for start in range(0, len(wire), cut):
        stream.feed(wire[start : start + cut])
    assert (b"".join(out), stream.rest) == (output, b"\0\xff\xf7")


@given(st.binary(max_size=40), st.integers(1, 7))
def test_output_without_an_end_mark_comes_through_whole(output: bytes, cut: int) -> None:
    out: list[bytes] = []
    stream = Withheld(b"\0", 3, out.append)
    for start in range(0, len(output), cut):
        stream.feed(output[start : start + cut])
    assert output.startswith(b"".join(out))
    assert len(stream.rest) <= 3
    stream.release()
    assert (b"".join(out), stream.rest) == (output, b"")


def test_the_end_mark_waits_for_room_in_a_full_pipe() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    telling = threading.Thread(target=agent._tell_end, args=(writing, -9))
    telling.start()
    os.set_blocking(reading, True)
    told = b""
    while not told.endswith(b"\0\xff\xf7"):
        assert select.select([reading], [], [], 5)[0], "nothing was told"
        told += os.read(reading, 1 << 16)
    telling.join()
    os.close(reading)
    os.close(writing)
