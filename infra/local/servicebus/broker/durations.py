"""ISO 8601 durations, as far as Service Bus uses them."""

from __future__ import annotations

import re

_DURATION = re.compile(
    r"^P(?:(?P<days>\d{1,8})D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,6})M)?"
    r"(?:(?P<seconds>\d{1,8}(?:\.\d{1,7})?)S)?)?\Z"
)
_DAY_MS = 24 * 60 * 60 * 1000
#: In Service Bus, .NET's ``TimeSpan.MaxValue`` (10675199 days and a few hours) means no limit.
UNLIMITED_MS = 10_675_199 * _DAY_MS


def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as ``PT1M30S`` or ``P14D``.

    Raises:
        ValueError: not a duration of days, hours, minutes and seconds.
    """
    match = _DURATION.match(text)
    if match is None or text == "P":
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 duration like PT30S, PT1M or P14D")
    days, hours, minutes = (int(match[part] or 0) for part in ("days", "hours", "minutes"))
    seconds = float(match["seconds"] or 0)
    return days * _DAY_MS + hours * 3_600_000 + minutes * 60_000 + round(seconds * 1000)
