"""Reads and writes pipes between this host and a box, on the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

_CHUNK = 64 * 1024


class PipeReader:
    """Reads a pipe, or a stream socket, into ``sink`` until its end, then closes it."""

    def __init__(self, descriptor: int, sink: Callable[[bytes], None]) -> None:
        self._descriptor: int | None = descriptor
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        if self._descriptor is None:
            return
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return
        except ConnectionResetError:  # a socket whose peer closed it with data unread
            data = b""
        if data:
            self._sink(data)
        else:
            self.close()

    def close(self) -> None:
        """Stop reading."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        self.ended.set()


class PipeWriter:
    """Writes to a pipe as fast as its reader reads, then closes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._rest = memoryview(b"")
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)

    def send(self, data: bytes) -> None:
        """Write ``data``, then close; call it once."""
        self._rest = memoryview(data)
        self._write()
        if self._descriptor is not None:
            self._loop.add_writer(self._descriptor, self._write)

    def _write(self) -> None:
        if self._descriptor is None:
            return
        try:
            self._rest = self._rest[os.write(self._descriptor, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._rest = self._rest[:0]  # nobody reads it any more
        if not self._rest:
            self.close()

    def close(self) -> None:
        """Stop writing; the reader sees the end of the pipe."""
        if self._descriptor is not None:
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
