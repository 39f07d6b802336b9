"""Reads a docker box's output, from frames of the attached stream or from the host's pipes.

Each frame has a header of eight bytes: stream number, three zeros, length in big-endian order; see
https://docs.docker.com/engine/api/v1.41/#operation/ContainerAttach.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable

_HEADER = struct.Struct(">BxxxL")
_CHUNK = 256 * 1024

Sink = Callable[[bytes], None]


class Demultiplexer:
    """Separates framed streams; ``sinks`` maps a stream's number to what takes its bytes."""

    def __init__(self, sinks: dict[int, Sink]) -> None:
        self.sinks = sinks
        self._pending = b""
        self._current = 0
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes, which may be divided anywhere."""
        data = self._pending + data
        offset = 0
        while offset < len(data):
            if self._left == 0:
                if len(data) - offset < _HEADER.size:
                    break
                self._current, self._left = _HEADER.unpack_from(data, offset)
                offset += _HEADER.size
                continue
            part = data[offset : offset + self._left]
            if self._current in self.sinks:
                self.sinks[self._current](part)
            self._left -= len(part)
            offset += len(part)
        self._pending = data[offset:]


class Withheld:
    """Passes bytes on, but withholds what may be the stream's trailer, which begins with ``mark``.

    Args:
        mark: one byte; rare in text, so that bytes are rarely withheld.
        length: bytes of the trailer, the mark included.
        sink: takes the bytes that are not withheld.

    Attributes:
        rest: the trailer, if the stream ends now.
    """

    def __init__(self, mark: bytes, length: int, sink: Sink) -> None:
        self.rest = b""
        self._mark, self._length = mark, length
        self._sink = sink

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        data = self.rest + data
        at = data.find(self._mark, max(0, len(data) - self._length))
        passed = len(data) if at < 0 else at
        self.rest = data[passed:]
        if passed:
            self._sink(data[:passed])

    def release(self) -> None:
        """Pass on what was withheld, because it was no trailer."""
        rest, self.rest = self.rest, b""
        if rest:
            self._sink(rest)


class Attached:
    """The attached stream of a container, read until the engine closes it at the container's end.

    Reading does not stop at any limit: a client that does not read blocks kill, wait and remove.

    Attributes:
        ended: done when the stream has ended, whoever ended it.
    """

    def __init__(self, connection: socket.socket, sinks: dict[int, Sink]) -> None:
        self._connection = connection
        self._demultiplexer = Demultiplexer(sinks)
        self._over: float | None = None
        self.ended: asyncio.Task[None] = asyncio.create_task(self._read())

    def silent_seconds(self) -> float:
        """How long ago the stream ended; 0 while it has not."""
        return 0.0 if self._over is None else time.monotonic() - self._over

    def direct(self, sinks: dict[int, Sink]) -> None:
        """Replace the sinks."""
        self._demultiplexer.sinks = sinks

    async def send(self, data: bytes) -> None:
        """Write to the box's stdin.

        Raises:
            OSError: the stream has ended.
        """
        await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def close(self) -> None:
        """Close the stream; the agent ends when its stdin does."""
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)
        self._connection.close()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._connection, _CHUNK):
                self._demultiplexer.feed(data)
        except OSError:
            return  # this is how the streams of an engine that died end
        finally:
            self._over = time.monotonic()


class FifoReader:
    """Reads a named pipe until nobody writes to it any more; the descriptor stays its owner's.

    `sandbox_host.linux.pipes.PipeReader` owns what it reads, and closes it.

    Args:
        descriptor: non-blocking.
        sink: takes the bytes.

    Attributes:
        ended: done when every writer is gone.
    """

    def __init__(self, descriptor: int, sink: Sink) -> None:
        self._descriptor = descriptor
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        # A FIFO without a writer yet is not readable, so this does not see an early end (pipe(7)).
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._sink(data)
        else:
            self.close()

    def close(self) -> None:
        """Stop reading; the descriptor stays open."""
        self._loop.remove_reader(self._descriptor)
        if not self.ended.done():
            self.ended.set_result(None)
