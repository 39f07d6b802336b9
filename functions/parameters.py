"""Parses query parameters. Numbers may only have the digits 0 to 9."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from functions.problems import invalid_parameter

#: Longest `Prefer: wait` and long poll, seconds; the load balancer times out after 230.
MAX_WAIT_SECONDS = 60

# Longer numbers are out of every range.
_WHOLE = re.compile(r"[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})",
    re.IGNORECASE,
)


def number_parameter(
    query: Mapping[str, str], name: str, *, default: int, low: int, high: int
) -> int:
    """A whole number.

    Raises:
        Problem: 400: it is not a whole number from ``low`` to ``high``.
    """
    raw = query.get(name)
    if raw is None:
        return default
    if not (_WHOLE.fullmatch(raw) and low <= int(raw) <= high):
        raise invalid_parameter(name, f"must be a whole number from {low} to {high}")
    return int(raw)


def decimal_parameter(query: Mapping[str, str], name: str) -> float | None:
    """A decimal number, such as -0.5; None if it is left out.

    Raises:
        Problem: 400: it is not a decimal number.
    """
    raw = query.get(name)
    if raw is None:
        return None
    if not _DECIMAL.fullmatch(raw):
        raise invalid_parameter(name, "must be a decimal number such as 0.5")
    return float(raw)


def seconds_parameter(query: Mapping[str, str], name: str) -> float:
    """Seconds to wait, at most `MAX_WAIT_SECONDS`; 0 if they are left out.

    Raises:
        Problem: 400: it is not a number of seconds.
    """
    raw = query.get(name, "0")
    if not _DECIMAL.fullmatch(raw) or raw.startswith("-"):
        raise invalid_parameter(name, "must be a number of seconds, 0 or more, such as 20 or 0.5")
    return min(float(raw), float(MAX_WAIT_SECONDS))


def time_parameter(query: Mapping[str, str], name: str) -> datetime | None:
    """A time with its offset from UTC (RFC 3339); None if it is left out.

    Raises:
        Problem: 400: it is not such a time.
    """
    raw = query.get(name)
    if raw is None:
        return None
    moment = _moment(raw)
    if moment is None:
        raise invalid_parameter(
            name, "must be a time such as 2026-03-01T12:00:00Z; write the + of an offset as %2B"
        )
    return moment


def _moment(raw: str) -> datetime | None:
    if not _TIME.fullmatch(raw):
        return None
    try:
        return datetime.fromisoformat(raw.upper())
    except ValueError:  # no such day, hour or offset
        return None
