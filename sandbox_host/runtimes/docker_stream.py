"""The stream of an attached container: header in, framed output out.

Frames have eight bytes before them: stream number, three zeros, length in big-endian order; see
https://docs.docker.com/engine/api/v1.41/#operation/ContainerAttach.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from sandbox_host.output import CappedStream

_HEADER = struct.Struct(">BxxxL")
_CHUNK = 256 * 1024


class Demultiplexer:
    """Sorts framed bytes into stdout and stderr."""

    def __init__(self, stdout: CappedStream, stderr: CappedStream) -> None:
        self._streams = {1: stdout, 2: stderr}
        self._pending = b""
        self._current: CappedStream | None = None
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes, however they are cut."""
        data = self._pending + data
        offset = 0
        while offset < len(data):
            if self._left == 0:
                if len(data) - offset < _HEADER.size:
                    break
                number, self._left = _HEADER.unpack_from(data, offset)
                self._current = self._streams.get(number)
                offset += _HEADER.size
                continue
            part = data[offset : offset + self._left]
            if self._current is not None:
                self._current.feed(part)
            self._left -= len(part)
            offset += len(part)
        self._pending = data[offset:]


async def drain(
    connection: socket.socket, stdout: CappedStream, stderr: CappedStream, flood: asyncio.Event
) -> None:
    """Read until the engine closes the stream, which it does when the container ends.

    Reading never stops at a cap: a client that does not read blocks kill, wait and remove.
    ``flood`` is set once a stream has gone far past any use.
    """
    loop = asyncio.get_running_loop()
    sorter = Demultiplexer(stdout, stderr)
    while data := await loop.sock_recv(connection, _CHUNK):
        sorter.feed(data)
        if stdout.flooded or stderr.flooded:
            flood.set()
