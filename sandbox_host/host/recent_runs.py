"""Remembers the runs in progress on this host, and its latest results."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from uuid import UUID

from sandbox_host.host.messages import Reply

MAX_RESULTS = 1000
MAX_BYTES = 32 * 1024**2


@dataclass
class Running:
    """A run in progress.

    Attributes:
        sequence_number: of the message that started it.
        settled: set when the run has ended, and its result was sent or will not be.
    """

    sequence_number: int
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class RecentRuns:
    """Runs in progress, and the latest results: at most ``max_results``, and ``max_bytes``."""

    def __init__(self, max_results: int = MAX_RESULTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._running: dict[UUID, Running] = {}
        self._results: OrderedDict[UUID, Reply] = OrderedDict()
        self._bytes = 0

    def running(self, run_id: UUID) -> Running | None:
        """The run in progress with this ID."""
        return self._running.get(run_id)

    def result(self, run_id: UUID) -> Reply | None:
        """The remembered result of a run."""
        found = self._results.get(run_id)
        if found is not None:
            self._results.move_to_end(run_id)
        return found

    def begin(self, run_id: UUID, sequence_number: int) -> Running:
        """Note that a run starts."""
        running = self._running[run_id] = Running(sequence_number)
        return running

    def remember(self, run_id: UUID, result: Reply) -> None:
        """Keep a result; beyond the limits, forget the least recently used ones."""
        replaced = self._results.pop(run_id, None)
        self._bytes += len(result.body) - (len(replaced.body) if replaced else 0)
        self._results[run_id] = result
        while len(self._results) > self._max_results or self._bytes > self._max_bytes:
            _, forgotten = self._results.popitem(last=False)
            self._bytes -= len(forgotten.body)

    def end(self, run_id: UUID) -> None:
        """Note that a run has ended and its message is settled."""
        running = self._running.pop(run_id, None)
        if running is not None:
            running.settled.set()
