"""Folds lanes for a rebuild: in this process, or in several to use more cores."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Protocol
from uuid import UUID

import orjson
import psycopg
from psycopg_pool import AsyncConnectionPool

from domain.projections.rebuild.contract import RebuildFailed
from domain.projections.stream_folds import FoldedLanes, Unfoldable, fold_lanes


class Folder(Protocol):
    """Folds the streams of lanes."""

    @property
    def ahead(self) -> int:
        """How many folds to have under way."""

    async def fold(self, first: int, end: int) -> FoldedLanes:
        """Fold the streams of lanes ``first`` to ``end`` - 1."""

    async def aclose(self) -> None:
        """Stop what it started."""


class FoldingHere:
    """Folds in this process, some lanes while the rows of others are written.

    Two at once, so that the server reads and sorts the events of one while the other is folded.
    """

    ahead = 2

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def fold(self, first: int, end: int) -> FoldedLanes:
        """Fold on a connection of the pool."""
        async with self._pool.connection() as connection:
            return await fold_lanes(connection, first, end)

    async def aclose(self) -> None:
        """It has started nothing."""


class FoldingProcesses:
    """Folds in ``count`` processes, which are started when needed and have a connection each.

    Args:
        url: the database's URL.
        role: the role as which they connect.
        count: the number of processes.
    """

    def __init__(self, url: str, role: str, count: int) -> None:
        self.ahead = count + 1
        self._opening = [url, role]
        self._started: list[_Worker] = []
        self._idle: asyncio.Queue[_Worker | None] = asyncio.Queue()
        for _ in range(count):
            self._idle.put_nowait(None)

    async def fold(self, first: int, end: int) -> FoldedLanes:
        """Fold in the next idle process.

        Raises:
            RebuildFailed: the process has ended.
            psycopg.OperationalError: the process cannot reach the database.
        """
        worker = await self._idle.get() or await self._start()
        folded = await worker.fold(first, end)
        self._idle.put_nowait(worker)
        return folded

    async def aclose(self) -> None:
        """Kill the processes, which only read."""
        for worker in self._started:
            await worker.kill()

    async def _start(self) -> _Worker:
        worker = _Worker(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "domain.projections.rebuild.worker_process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**20,
            )
        )
        self._started.append(worker)
        worker.send(self._opening)  # not as an argument, which other users could see
        return worker


class _Worker:
    """A process of `domain.projections.rebuild.worker_process`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process needs pipes")
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    def send(self, line: list[str] | list[int]) -> None:
        self._stdin.write(orjson.dumps(line) + b"\n")

    async def fold(self, first: int, end: int) -> FoldedLanes:
        try:
            self.send([first, end])
            await self._stdin.drain()
            answer: dict[str, Any] = orjson.loads(await self._stdout.readuntil())
            if "unavailable" in answer:
                raise psycopg.OperationalError(answer["unavailable"])
            unfoldable = orjson.loads(await self._stdout.readexactly(answer["unfoldable"]))
            rows = await self._stdout.readexactly(answer["rows"])
        except (asyncio.IncompleteReadError, ConnectionError):
            raise RebuildFailed(
                f"a process that folds streams ended with {await self._process.wait()}: "
                "run it again, it goes on from here; with --workers 1 there is none"
            ) from None
        return FoldedLanes(rows, [_unfoldable(*each) for each in unfoldable], answer["events"])

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


def _unfoldable(intent: str, stream: str, version: int, event: str, error: str) -> Unfoldable:
    return Unfoldable(UUID(intent), stream, version, UUID(event), error)
