"""Capped exponential backoff with jitter."""

from __future__ import annotations

import random

_FIRST_SECONDS = 0.1
_CAP_SECONDS = 5.0


class Backoff:
    """How long to wait before the next attempt.

    The wait doubles from 0.1 s up to 5 s: a developer who restarts a broker does not want to wait.
    Half of it is random, so that triggers do not all reconnect at the same time.
    """

    def __init__(self) -> None:
        self._attempts = 0

    def reset(self) -> None:
        """Start over after a success."""
        self._attempts = 0

    def next(self) -> float:
        """Return the seconds to wait."""
        limit = min(_CAP_SECONDS, _FIRST_SECONDS * 2.0 ** min(self._attempts, 10))
        self._attempts += 1
        return limit * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
