"""The stdio of a container that this host has started: three pipes."""

from __future__ import annotations

import asyncio
import os
import time

from sandbox_host.runtimes.containers.stream import Sink

_CHUNK = 256 * 1024


class Stdio:
    """See `sandbox_host.runtimes.containers.engine.Stream`.

    Attributes:
        inside: the container's ends; to be closed here once it has been started.
        ended: see `Stream`.
    """

    def __init__(self) -> None:
        stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
        pipes = {number: os.pipe2(os.O_CLOEXEC) for number in (1, 2)}
        self.inside = (stdin, pipes[1][1], pipes[2][1])
        self._outside = {number: reading for number, (reading, _) in pipes.items()}
        self._sinks: dict[int, Sink] = {}
        self._over: float | None = None
        self._loop = asyncio.get_running_loop()
        self._ends = {number: self._loop.create_future() for number in self._outside}
        os.set_blocking(self._stdin, False)
        for number, descriptor in self._outside.items():
            os.set_blocking(descriptor, False)
            self._loop.add_reader(descriptor, self._read, number, descriptor)
        self.ended: asyncio.Task[None] = asyncio.create_task(self._wait())

    def silent_seconds(self) -> float:
        """See `Stream.silent_seconds`."""
        return 0.0 if self._over is None else time.monotonic() - self._over

    def direct(self, sinks: dict[int, Sink]) -> None:
        """See `Stream.direct`."""
        self._sinks = sinks

    async def send(self, data: bytes) -> None:
        """See `Stream.send`."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._stdin, left) :]
            except BlockingIOError:
                await self._writable()

    async def close(self) -> None:
        """See `Stream.close`."""
        self.started()
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)
        for number in [*self._outside]:
            self._end(number)

    def started(self) -> None:
        """Close the container's ends here, so that the end of its own is seen."""
        for descriptor in self.inside:
            os.close(descriptor)
        self.inside = ()  # type: ignore[assignment]

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_writer(self._stdin, _done, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._stdin)

    async def _wait(self) -> None:
        await asyncio.wait(self._ends.values())
        self._over = time.monotonic()

    def _read(self, number: int, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._end(number)
        elif number in self._sinks:
            self._sinks[number](data)

    def _end(self, number: int) -> None:
        descriptor = self._outside.pop(number, None)
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        _done(self._ends[number])


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
