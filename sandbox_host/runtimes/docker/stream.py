"""What comes out of a docker box: frames of the attached stream, or pipes of the host's.

Frames have eight bytes before them: stream number, three zeros, length in big-endian order; see
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
    """Sorts framed bytes; ``sinks`` maps a stream's number to what takes its bytes."""

    def __init__(self, sinks: dict[int, Sink]) -> None:
        self.sinks = sinks
        self._pending = b""
        self._current = 0
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes, however they are cut."""
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
    """Hands bytes on but for what may be the stream's last ones, ``mark`` and all after it.

    Args:
        mark: one byte; rare in text, so that hardly anything waits for what comes after it.
        length: bytes of the last part, the mark included.
        sink: takes what is not withheld.

    Attributes:
        rest: the last part, if the stream ends now.
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
        """Hand on what was withheld: it was no last part."""
        rest, self.rest = self.rest, b""
        if rest:
            self._sink(rest)


class Attached:
    """The attached stream of a container, read until the engine closes it at the container's end.

    Reading never stops at a cap: a client that does not read blocks kill, wait and remove.

    Attributes:
        ended: done when the stream is over, whoever ended it.
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
        """Give what comes from now on to others."""
        self._demultiplexer.sinks = sinks

    async def send(self, data: bytes) -> None:
        """Write to the box's stdin.

        Raises:
            OSError: the stream is over.
        """
        await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def close(self) -> None:
        """Hang up; the agent ends when its stdin does."""
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)
        self._connection.close()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._connection, _CHUNK):
                self._demultiplexer.feed(data)
        except OSError:
            return  # an engine that died ends its streams that way
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
        # Not ready before its first writer comes, although that one is not waited for (pipe(7)).
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
