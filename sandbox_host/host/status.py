"""Counters and conditions of the host, for ``/health``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from domain.contracts.envelope import rfc3339


@dataclass
class HostStatus:
    """Counters and conditions, set by the consumer and the job runner.

    Attributes:
        connected: receivers with an open link to the bus.
        running: programs running now.
        stopping: whether the host was asked to stop.
        finished: ended runs, by verdict.
        dead_lettered: messages moved to the dead-letter queue.
        last_error: the last failure of the bus or of a run, and its time.
    """

    connected: int = 0
    running: int = 0
    stopping: bool = False
    finished: Counter[str] = field(default_factory=Counter)
    dead_lettered: int = 0
    last_error: dict[str, str] | None = None

    def failed(self, what: str) -> None:
        """Note a failure."""
        self.last_error = {"time": rfc3339(datetime.now(UTC)), "message": what[:500]}
