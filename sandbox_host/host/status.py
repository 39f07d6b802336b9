"""What the host knows about itself, for ``/health``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from domain.contracts.envelope import rfc3339


@dataclass
class HostStatus:
    """Counts and conditions, written by the consumer.

    Attributes:
        connected: receivers with an open link to the bus.
        running: programs that run now.
        stopping: a stop was asked for.
        finished: runs that ended, by verdict.
        dead_lettered: messages refused without an answer.
        last_error: the last failure of the bus or of a run, and when.
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
