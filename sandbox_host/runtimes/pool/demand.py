"""Decides how many boxes should wait, from recent jobs and a memory budget."""

from __future__ import annotations

import math
from collections.abc import Mapping

#: Seconds over which arrivals are averaged: short, so that a burst shows at once.
_AVERAGED = 2.0

#: Half-life of the highest rate, seconds: long, so that the next burst finds boxes waiting.
_HALF_LIFE = 30.0

#: Jobs arrive in bursts, so boxes for twice the rate are kept.
_SAFETY = 2.0


class Demand:
    """The arrival rate of one language's jobs: a short average, and its decaying peak.

    Args:
        least: boxes wanted without any demand.
    """

    def __init__(self, least: int = 1) -> None:
        self._least = least
        self._average = 0.0
        self._peak = 0.0
        self._seen = -math.inf

    def arrived(self, now: float) -> None:
        """Record a job; ``now`` is in seconds of any monotonic clock."""
        self._fade(now)
        self._average += 1 / _AVERAGED
        self._peak = max(self._peak, self._average)

    def rate(self, now: float) -> float:
        """Jobs per second to be ready for."""
        self._fade(now)
        return self._peak

    def wanted(self, now: float, seconds_to_make: float) -> int:
        """Boxes that should wait: as many as jobs arrive while one is made, and some to spare."""
        return self._least + math.ceil(round(_SAFETY * self.rate(now) * seconds_to_make, 1))

    def _fade(self, now: float) -> None:
        passed, self._seen = now - self._seen, now
        self._average *= math.exp(-passed / _AVERAGED)
        self._peak = max(self._average, self._peak * 0.5 ** (passed / _HALF_LIFE))


def share(wanted: Mapping[str, int], capacity: int) -> dict[str, int]:
    """Divide boxes among languages: first one each, then to those farthest below their target.

    If there is not one for each, the languages that want most get them.

    Args:
        wanted: boxes wanted by language, at least one each.
        capacity: boxes in all.
    """
    given = dict.fromkeys(wanted, 0)
    for _ in range(min(capacity, sum(wanted.values()))):
        furthest_below = min(given, key=lambda name: (given[name] / wanted[name], -wanted[name]))
        given[furthest_below] += 1
    return given
