"""Separates what a bubblewrap box writes: messages from its setup, marks, the program's output."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sandbox_host.run.output import CappedStream
from sandbox_host.runtimes.bubblewrap.shell import MARKS

#: Bytes kept of the messages of ``bwrap`` and the shell, before the program starts.
_MESSAGE_BYTES = 4096


class BoxOutput:
    """Takes a box's stdout and stderr.

    Args:
        on_flood: called when the program has written far too much to a stream.

    Attributes:
        ready: set when the shell has marked that it waits, or when it never will (`end`).
        started: set when the shell has marked the program's start, or when it never will.
    """

    def __init__(self, on_flood: Callable[[], None]) -> None:
        self.ready = asyncio.Event()
        self.started = asyncio.Event()
        self._on_flood = on_flood
        self._marks = b""
        self._messages = CappedStream(_MESSAGE_BYTES)
        self._streams = (self._messages, self._messages)

    @property
    def was_ready(self) -> bool:
        """Whether the shell has marked that it waits."""
        return len(self._marks) > 0

    @property
    def has_started(self) -> bool:
        """Whether the shell has marked the program's start."""
        return len(self._marks) == len(MARKS)

    def direct(self, stdout: CappedStream, stderr: CappedStream) -> None:
        """Set the streams that take the program's output."""
        self._streams = stdout, stderr

    def on_stdout(self, data: bytes) -> None:
        """Take the next bytes of stdout; those after the marks are the program's."""
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
        """Stop waiting for marks; output that was already written may still come."""
        self.ready.set()
        self.started.set()

    def last_message(self) -> str:
        """The last line written in a box whose program has not started."""
        streams = (self._messages, self._streams[1])
        text = "\n".join(dict.fromkeys(stream.text() for stream in streams))
        return (text.strip().splitlines() or ["no message"])[-1]

    def _feed(self, stream: CappedStream, data: bytes) -> None:
        stream.feed(data)
        if stream.flooded:
            self._on_flood()
