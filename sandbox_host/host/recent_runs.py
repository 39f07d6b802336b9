"""Which runs this host is busy with, and the results it already has."""

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
        settled: set when the run is over and its result is sent, or will not be.
    """

    sequence_number: int
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class Runs:
    """Remembers the last results, at most ``max_results`` and ``max_bytes`` of them."""

    def __init__(self, max_results: int = MAX_RESULTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._running: dict[UUID, Running] = {}
        self._results: OrderedDict[UUID, Reply] = OrderedDict()
        self._bytes = 0

    def running(self, run_id: UUID) -> Running | None:
        """The run in progress with this id."""
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
        """Keep a result, forgetting the longest unused ones beyond the bounds."""
        replaced = self._results.pop(run_id, None)
        self._bytes += len(result.body) - (len(replaced.body) if replaced else 0)
        self._results[run_id] = result
        while len(self._results) > self._max_results or self._bytes > self._max_bytes:
            _, forgotten = self._results.popitem(last=False)
            self._bytes -= len(forgotten.body)

    def end(self, run_id: UUID) -> None:
        """Note that a run is over and settled."""
        running = self._running.pop(run_id, None)
        if running is not None:
            running.settled.set()
