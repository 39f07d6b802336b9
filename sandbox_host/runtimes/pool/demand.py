"""How many boxes should wait: what recent jobs ask for, and how a memory budget is shared out."""

from __future__ import annotations

import math
from collections.abc import Mapping

#: Seconds over which arrivals are averaged, so that a burst shows at once; and seconds after which
#: half of a rate once seen is forgotten, so that the next burst finds boxes waiting.
_AVERAGED = 2.0
_HALF_FORGOTTEN = 30.0

#: Arrivals bunch: boxes for twice the average are kept.
_SAFETY = 2.0


class Demand:
    """Jobs per second of one language: the average of the last moments, and its fading peak.

    Args:
        least: boxes for the jobs that come after quiet.
    """

    def __init__(self, least: int = 1) -> None:
        self._least = least
        self._average = 0.0
        self._peak = 0.0
        self._seen = -math.inf

    def arrived(self, now: float) -> None:
        """Note a job; ``now`` in seconds of any clock that never goes back."""
        self._fade(now)
        self._average += 1 / _AVERAGED
        self._peak = max(self._peak, self._average)

    def rate(self, now: float) -> float:
        """Jobs per second to be ready for."""
        self._fade(now)
        return self._peak

    def wanted(self, now: float, seconds_to_make: float) -> int:
        """Boxes that should wait: as many jobs as come while one is made, with some to spare."""
        return self._least + math.ceil(round(_SAFETY * self.rate(now) * seconds_to_make, 1))

    def _fade(self, now: float) -> None:
        passed, self._seen = now - self._seen, now
        self._average *= math.exp(-passed / _AVERAGED)
        self._peak = max(self._average, self._peak * 0.5 ** (passed / _HALF_FORGOTTEN))


def share(wanted: Mapping[str, int], room: int) -> dict[str, int]:
    """Boxes for each language out of ``room`` for all: one each first, then those who lack most.

    Where there is not even one for each, the languages that want most have them.

    Args:
        wanted: boxes by language, at least one for each.
        room: boxes in all.
    """
    given = dict.fromkeys(wanted, 0)
    for _ in range(min(room, sum(wanted.values()))):
        neediest = min(given, key=lambda name: (given[name] / wanted[name], -wanted[name]))
        given[neediest] += 1
    return given
