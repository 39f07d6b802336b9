"""TimeSpan strings: ``hh:mm:ss``, ``d.hh:mm:ss`` and Functions' ``dd:hh:mm``."""

from __future__ import annotations

import re
from datetime import timedelta

_TIMESPAN = re.compile(r"(?:(\d{1,4})\.)?(\d{1,4}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?\Z")


def parse(text: str) -> timedelta:
    """Return the duration; ValueError says what is expected.

    A first number above 23, as in ``24:00:00``, means days: this is so in .NET and documented at
    https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#timespan
    """
    match = _TIMESPAN.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 00:05:00 (hh:mm:ss)")
    days, first, second, third = (int(group or 0) for group in match.groups()[:4])
    if match[1] is None and first >= 24:
        days, first, second, third = first, second, third, 0
    if first > 23 or second > 59 or third > 59:
        raise ValueError(f"{text!r} is not a duration: hours to 23, minutes and seconds to 59")
    fraction = int((match[5] or "").ljust(7, "0")) // 10
    return timedelta(days=days, hours=first, minutes=second, seconds=third, microseconds=fraction)
