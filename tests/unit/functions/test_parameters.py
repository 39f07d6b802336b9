from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from functions.parameters import (
    decimal_parameter,
    number_parameter,
    seconds_parameter,
    time_parameter,
)
from functions.problems import Problem

NO_NUMBERS = ["x", "1_0", "１０", "١", " 1", "1 ", "+1", "1e1", "0x1", "1.", ".1", "9" * 30, "1,2"]


@pytest.mark.parametrize("raw", [*NO_NUMBERS, "-1", "1.0", "0", "101"])
def test_anything_but_a_whole_number_in_bounds_is_refused_by_name(raw: str) -> None:
    with pytest.raises(Problem, match="limit: must be a whole number from 1 to 100"):
        number_parameter({"limit": raw}, "limit", default=50, low=1, high=100)


@pytest.mark.parametrize("raw", [*NO_NUMBERS, "nan", "inf", "-inf", "1e999", "--1"])
def test_anything_but_a_decimal_number_is_refused_by_name(raw: str) -> None:
    with pytest.raises(Problem, match="threshold: must be"):
        decimal_parameter({"threshold": raw}, "threshold")
    with pytest.raises(Problem, match="wait: must be"):
        seconds_parameter({"wait": raw}, "wait")


def test_numbers_are_read_as_they_are_written() -> None:
    assert number_parameter({"limit": "007"}, "limit", default=50, low=1, high=100) == 7
    assert number_parameter({}, "limit", default=50, low=1, high=100) == 50
    assert decimal_parameter({"threshold": "-0.25"}, "threshold") == -0.25
    assert decimal_parameter({}, "threshold") is None
    assert seconds_parameter({"wait": "0.5"}, "wait") == 0.5
    assert seconds_parameter({"wait": "61"}, "wait") == 60
    assert seconds_parameter({}, "wait") == 0


def test_a_negative_wait_is_refused() -> None:
    with pytest.raises(Problem, match="0 or more"):
        seconds_parameter({"wait": "-1"}, "wait")


@pytest.mark.parametrize(
    "raw",
    [
        "1700000000",
        "1700000000.5",
        "yesterday",
        "2026-03-01",
        "2026-03-01T12:00:00",
        "2026-03-01 12:00:00Z",
        "2026-03-01T12:00:00 01:00",  # a + that was not written as %2B
        "２０２６-03-01T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-03-01T25:00:00Z",
        "2026-03-01T12:00:00+99:00",
        "20260301T120000Z",
        "2026-W09-7T12:00:00Z",
    ],
)
def test_anything_but_a_time_with_an_offset_is_refused_by_name(raw: str) -> None:
    with pytest.raises(Problem, match="created_after: must be a time such as"):
        time_parameter({"created_after": raw}, "created_after")


@pytest.mark.parametrize(
    ("raw", "moment"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01t12:00z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00.25+01:00", datetime(2026, 3, 1, 11, 0, 0, 250_000, tzinfo=UTC)),
        (None, None),
    ],
)
def test_times_are_read_as_they_are_written(raw: str | None, moment: datetime | None) -> None:
    query: dict[str, Any] = {} if raw is None else {"at": raw}
    assert time_parameter(query, "at") == moment
