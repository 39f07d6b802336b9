"""What comes out of a bubblewrap box: the words of who sets it up, marks, the program's output."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sandbox_host.run.output import CappedStream
from sandbox_host.runtimes.bubblewrap.shell import MARKS

#: Bytes kept of what ``bwrap`` and the shell have to say before there is a program.
_WORDS = 4096


class BoxOutput:
    """Sorts it.

    Args:
        on_flood: called when a stream of the program's has gone far past any use.

    Attributes:
        ready: set when the shell has marked that it waits, or when it never will (`end`).
        started: set when it has marked that the program begins, or when it never will.
    """

    def __init__(self, on_flood: Callable[[], None]) -> None:
        self.ready = asyncio.Event()
        self.started = asyncio.Event()
        self._on_flood = on_flood
        self._marks = b""
        self._words = CappedStream(_WORDS)
        self._streams = (self._words, self._words)

    @property
    def was_ready(self) -> bool:
        """Whether the shell has marked that it waits."""
        return len(self._marks) > 0

    @property
    def has_started(self) -> bool:
        """Whether it has marked that the program begins."""
        return len(self._marks) == len(MARKS)

    def direct(self, stdout: CappedStream, stderr: CappedStream) -> None:
        """Where the program's output goes."""
        self._streams = stdout, stderr

    def on_stdout(self, data: bytes) -> None:
        """Take the next bytes of stdout: the program's own come after the marks."""
        lacking = len(MARKS) - len(self._marks)
        self._marks += data[:lacking]
        if self.was_ready:
            self.ready.set()
        if self.has_started:
            self.started.set()
        if len(data) > lacking:
            self._feed(self._streams[0], data[lacking:])

    def on_stderr(self, data: bytes) -> None:
        """Take the next bytes of stderr."""
        self._feed(self._streams[1], data)

    def end(self) -> None:
        """Let go whoever waits for a mark; what was written may still come."""
        self.ready.set()
        self.started.set()

    def last_words(self) -> str:
        """What was said last, for boxes whose program has not started."""
        said = "\n".join(dict.fromkeys(stream.text() for stream in (self._words, self._streams[1])))
        return (said.strip().splitlines() or ["no message"])[-1]

    def _feed(self, stream: CappedStream, data: bytes) -> None:
        stream.feed(data)
        if stream.flooded:
            self._on_flood()
