"""Buffers a connection's outgoing bytes, to write them in few system calls."""

from __future__ import annotations

import asyncio


class Outbox:
    """Collects what is written in one turn of the event loop, and writes it together."""

    def __init__(self, high_water_bytes: int) -> None:
        self.transport: asyncio.Transport | None = None
        self._high_water_bytes = high_water_bytes
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._size = 0
        self._flush_is_due = False
        self.last_sent = self._loop.time()

    def expect_flush(self) -> None:
        """The caller promises to flush at the end of this turn, so no flush is scheduled."""
        self._flush_is_due = True

    def write(self, data: bytes) -> None:
        """Add bytes; above the high-water mark they are flushed, so that back-pressure works."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= self._high_water_bytes:
            self.flush()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write everything to the transport."""
        self._flush_is_due = False
        if not self._parts:
            return
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self.last_sent = self._loop.time()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
