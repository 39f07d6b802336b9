"""Shares the rebuild of a projection that follows the log among processes, each with some lanes.

They follow under a name of the rebuild's own, so how far they have come is recorded with what they
have written, and another run goes on from there.
"""

from __future__ import annotations

import asyncio
import sys
from enum import Enum, auto
from uuid import UUID

import orjson
import psycopg

from domain.eventlog.followers import HELD_SECONDS
from domain.projections.rebuild.contract import RebuildFailed

#: A page takes less. Seconds.
_SILENT_SECONDS = 180.0


class Report(Enum):
    """What a process says."""

    PAGE = auto()
    DONE = auto()


class FollowingProcesses:
    """The processes; they are started when needed and have a connection each.

    Args:
        url: the database's URL.
        role: the role as which they connect.
        count: the number of processes.
        alone_until: not worth it for fewer events than these.
    """

    def __init__(self, url: str, role: str, count: int, alone_until: int) -> None:
        self.alone_until = alone_until
        self._opening, self._count = [url, role], count
        self._started: list[asyncio.subprocess.Process] = []
        self._reading: list[asyncio.Task[None]] = []
        self._reports: asyncio.Queue[Report | Exception] = asyncio.Queue()
        self._running = 0

    async def start(self, projection: str, run: UUID, page: int) -> None:
        """Let them process what there is for this run, ``page`` events at a time."""
        for _ in range(self._count):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "domain.projections.rebuild.following_process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self._started.append(process)
            assert process.stdin is not None
            # Not as arguments, which other users could see.
            process.stdin.write(orjson.dumps([*self._opening, projection, run, page]) + b"\n")
            self._reading.append(asyncio.create_task(self._read(process)))
            self._running += 1

    async def report(self) -> bool:
        """Wait until one of them has processed a page, or ended; whether there are any left.

        Raises:
            RebuildFailed: a process has ended before it was done, or all stand still.
            psycopg.OperationalError: a process cannot reach the database.
        """
        try:
            report = await asyncio.wait_for(self._reports.get(), _SILENT_SECONDS)
        except TimeoutError:
            raise RebuildFailed(
                "the processes of the rebuild stand still: run it again, it goes on from here"
            ) from None
        if isinstance(report, Exception):
            raise report
        self._running -= report is Report.DONE
        return self._running > 0

    async def stop(self) -> None:
        """Let each end with its page, and wait for that."""
        for process in self._started:
            assert process.stdin is not None
            process.stdin.close()
        # One that stands still holds nothing after a while: what it would write is undone.
        _, silent = await asyncio.wait(self._reading, timeout=HELD_SECONDS)
        if silent:
            await self.aclose()
            return
        while not self._reports.empty():
            if isinstance(report := self._reports.get_nowait(), Exception):
                raise report

    async def aclose(self) -> None:
        """Kill those that still run."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await asyncio.gather(*self._reading, return_exceptions=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            answer = orjson.loads(line)
            if "unavailable" in answer:
                self._reports.put_nowait(psycopg.OperationalError(answer["unavailable"]))
                return
            self._reports.put_nowait(Report.PAGE)
        if code := await process.wait():
            self._reports.put_nowait(
                RebuildFailed(
                    f"a process of the rebuild ended with {code}: run it again, it goes on from "
                    "here; with --workers 1 there is none"
                )
            )
        else:
            self._reports.put_nowait(Report.DONE)
