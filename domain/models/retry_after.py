"""The pause that a provider of models asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime

#: The longest pause that a provider is granted.
_LONGEST_RETRY = timedelta(days=1)


def retry_after_of(headers: Mapping[str, str]) -> timedelta | None:
    """The pause that a response asks for; None if it gives none that makes sense.

    ``retry-after-ms`` (Azure), else ``Retry-After``, in seconds or as a date (RFC 9110, 10.2.3).
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        given = headers.get(name)
        if given is None:
            continue
        try:
            seconds = float(given) * unit
        except ValueError:
            seconds = _until(given)
        if math.isfinite(seconds) and seconds >= 0:
            return min(timedelta(seconds=min(seconds, 1e6)), _LONGEST_RETRY)
    return None


def _until(date: str) -> float:
    try:
        return max(parsedate_to_datetime(date).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError, OverflowError, OSError):
        return math.nan
