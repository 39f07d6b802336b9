"""Live output: what running programs have printed so far.

It comes with heartbeats, is limited, and is deleted after a day; the run's result has the output
that is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.application.handler import cancel_id, finished_id
from domain.contracts.heartbeat import MAX_LIVE_CHARACTERS, OutputChunk
from domain.database.polling import Watcher
from domain.database.pool import delete_in_steps, fetch
from domain.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("output.sql"))

#: Between two queries for all requests of this process that wait for output, seconds.
POLL_SECONDS = 0.3

#: Chunks in one answer.
PAGE = 1000

KEEP_DAYS = 1
_PURGED_AT_ONCE = 10_000


class Watched(NamedTuple):
    """A run whose output is stored or awaited."""

    run_id: UUID
    intent_id: UUID


class Progress(NamedTuple):
    """The number of a run's last chunk, -1 before the first, and whether the run has ended."""

    last_seq: int
    ended: bool


class RunOutput:
    """Stores, reads and waits for chunks of live output."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._watcher: Watcher[Watched, Progress] = Watcher(self._progress, POLL_SECONDS)

    async def add(self, chunks: Sequence[tuple[Watched, OutputChunk]]) -> None:
        """Store chunks, except those that are stored already or exceed the run's limit."""
        if not chunks:
            return
        params = {
            "run_ids": [run.run_id for run, _ in chunks],
            "seqs": [chunk.seq for _, chunk in chunks],
            "streams": [chunk.stream for _, chunk in chunks],
            # PostgreSQL's text holds no NUL.
            "texts": [chunk.text.replace("\x00", "\ufffd") for _, chunk in chunks],
            "limit": MAX_LIVE_CHARACTERS,
        }
        await fetch(self._pool, _SQL["add"], params)
        self._watcher.tell({run: Progress(chunk.seq, False) for run, chunk in chunks})

    async def after(self, run_id: UUID, seq: int) -> list[OutputChunk]:
        """The run's chunks after number ``seq``, in order, at most `PAGE`."""
        params = {"run_id": run_id, "after": seq, "limit": PAGE}
        rows = await fetch(self._pool, _SQL["after"], params)
        return [
            OutputChunk.model_construct(seq=seq, stream=stream, text=text)
            for seq, stream, text in rows
        ]

    async def progress(self, run: Watched) -> Progress:
        """The progress of a run."""
        return (await self._progress([run]))[run]

    async def wait(self, run: Watched, seq: int, timeout: float) -> bool:
        """Wait for a chunk after number ``seq`` or the run's end, at most ``timeout`` seconds."""
        return await self._watcher.wait(
            run, lambda progress: progress.ended or progress.last_seq > seq, timeout
        )

    async def _progress(self, runs: Iterable[Watched]) -> dict[Watched, Progress]:
        by_id = {run.run_id: run for run in runs}
        params = {
            "run_ids": [*by_id],
            "finished": [finished_id(run_id) for run_id in by_id],
            "cancelled": [cancel_id(run.intent_id) for run in by_id.values()],
        }
        rows = await fetch(self._pool, _SQL["progress"], params)
        return {by_id[run_id]: Progress(last, ended) for run_id, last, ended in rows}

    async def purge(self) -> int:
        """Delete chunks older than `KEEP_DAYS`; returns their number."""
        params = {"days": KEEP_DAYS, "limit": _PURGED_AT_ONCE}
        return await delete_in_steps(self._pool, _SQL["purge"], params)
