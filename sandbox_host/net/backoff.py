"""Pauses between attempts."""

from __future__ import annotations

import random


class Backoff:
    """Exponentially growing pauses with jitter, at most ``ceiling`` seconds."""

    def __init__(self, first: float = 0.5, ceiling: float = 30.0) -> None:
        self._first, self._ceiling = first, ceiling
        self._attempt = 0

    def reset(self) -> None:
        """Start over after a success."""
        self._attempt = 0

    def next(self) -> float:
        """Seconds to pause now; at least a tenth of the current step, so that no caller spins."""
        step = min(self._ceiling, self._first * 2.0**self._attempt)
        self._attempt = min(self._attempt + 1, 16)
        return step * random.uniform(0.1, 1.0)  # noqa: S311 - jitter, not a secret
