"""NCRONTAB: ``{second} {minute} {hour} {day} {month} {day-of-week}``, or five without seconds.

Grammar and meaning are those of https://github.com/atifaziz/NCrontab, which the timer extension
uses: names for months and days, lists, ranges, steps (``3/5`` is every fifth value from 3 on).
Sunday is 0. If both day and day of the week are restricted, both must match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

# name, lowest, highest, names
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)

_ITEM = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d{1,4}))?\Z")

#: The search for a next occurrence ends after this; 30 February never occurs.
_SEARCH_YEARS = 8


@dataclass(frozen=True)
class CronSchedule:
    """A parsed expression; each field holds the values that it allows, sorted."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    def next_after(self, moment: datetime) -> datetime:
        """Return the first occurrence after ``moment`` (aware), in UTC."""
        after = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        day = after.replace(hour=0, minute=0, second=0)
        last_year = after.year + _SEARCH_YEARS
        while day.year <= last_year:
            if day.month not in self.months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            elif day.day in self.days and day.isoweekday() % 7 in self.weekdays:
                found = self._first_time(day, after)
                if found is not None:
                    return found
                day += timedelta(days=1)
            else:
                day += timedelta(days=1)
        raise ValueError(f"the schedule does not occur within {_SEARCH_YEARS} years")

    def _first_time(self, day: datetime, after: datetime) -> datetime | None:
        earliest = after.time() if day.date() == after.date() else day.time()
        for hour in self.hours:
            if hour < earliest.hour:
                continue
            for minute in self.minutes:
                if (hour, minute) < (earliest.hour, earliest.minute):
                    continue
                for second in self.seconds:
                    if (hour, minute, second) >= (earliest.hour, earliest.minute, earliest.second):
                        return day.replace(hour=hour, minute=minute, second=second)
        return None


def parse(expression: str) -> CronSchedule:
    """Parse an expression; ValueError names the wrong field and what it may contain."""
    parts = expression.split()
    if len(parts) == 5:
        parts.insert(0, "0")
    if len(parts) != 6:
        raise ValueError(
            f"{expression!r} has {len(parts)} fields; NCRONTAB has six "
            "(second minute hour day month day-of-week), or five without the second"
        )
    values = [_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)]
    schedule = CronSchedule(*values)
    schedule.next_after(datetime.now(UTC))  # refuses dates that never occur
    return schedule


def _field(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> tuple[int, ...]:
    allowed: set[int] = set()
    for item in text.split(","):
        match = _ITEM.match(item)
        step = int(match["step"] or 1) if match else 0
        if match is None or step < 1 or (match["first"] == "*" and match["last"]):
            raise ValueError(f"{name}: {item!r} is not a value, a range a-b or a step a/n")
        if match["first"] == "*":
            first, last = low, high
        else:
            first = _value(match["first"], name, low, high, names)
            last = _value(match["last"], name, low, high, names) if match["last"] else first
            if match["step"] and match["last"] is None:
                last = high
        if last < first:
            raise ValueError(f"{name}: the range {item!r} ends before it begins")
        allowed.update(range(first, last + 1, step))
    return tuple(sorted(allowed))


def _value(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text.isascii() and text.isdigit():
        value = int(text[:6])
    else:
        value = low - 1
        if len(text) >= 3:
            for index, candidate in enumerate(names):
                if candidate.startswith(text.lower()):
                    value = index + low
    if not low <= value <= high:
        known = f" or a name such as {names[0][:3]}" if names else ""
        raise ValueError(f"{name}: {text!r} must be a number from {low} to {high}{known}")
    return value
