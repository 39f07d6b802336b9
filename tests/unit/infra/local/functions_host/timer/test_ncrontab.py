"""NCRONTAB schedules occur when NCrontab says they occur."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.functions_host.timer import ncrontab

START = datetime(2026, 11, 23, 10, 30, 15, 500_000, tzinfo=UTC)  # a Monday


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * * *", "2026-11-23 10:30:16"),
        ("0 * * * * *", "2026-11-23 10:31:00"),
        ("* * * * *", "2026-11-23 10:31:00"),  # five fields: second 0
        ("0 */5 * * * *", "2026-11-23 10:35:00"),
        ("0 0 */2 * * *", "2026-11-23 12:00:00"),
        ("*/20 30 10 * * *", "2026-11-23 10:30:20"),
        ("15 30 10 * * *", "2026-11-24 10:30:15"),  # now is not after now
        ("0 0 9-17 * * *", "2026-11-23 11:00:00"),
        ("0 0 9-17/4 * * *", "2026-11-23 13:00:00"),
        ("0 5,20,50 * * * *", "2026-11-23 10:50:00"),
        ("0 40/7 * * * *", "2026-11-23 10:40:00"),  # from 40 on, every seventh
        ("0 30 9 * * Mon-Fri", "2026-11-24 09:30:00"),
        ("0 30 9 * Jan Mon", "2027-01-04 09:30:00"),
        ("0 0 0 * JANUARY sunday", "2027-01-03 00:00:00"),
        ("0 0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 0 31 * *", "2026-12-31 00:00:00"),
        ("0 0 0 13 * 5", "2027-08-13 00:00:00"),  # Friday *and* the 13th, unlike Vixie cron
        ("59 59 23 31 12 *", "2026-12-31 23:59:59"),
    ],
)
def test_the_next_occurrence(expression: str, expected: str) -> None:
    following = ncrontab.parse(expression).next_after(START)
    assert following == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("60 * * * * *", "second"),
        ("* 60 * * * *", "minute"),
        ("* * 24 * * *", "hour"),
        ("* * * 0 * *", "day"),
        ("* * * * 13 *", "month"),
        ("* * * * * 7", "day of week"),
        ("* * * * Foo *", "month"),
        ("* * * * * Mo", "day of week"),
        ("5-1 * * * * *", "ends before"),
        ("*/0 * * * * *", "step"),
        ("*-5 * * * * *", "step"),
        ("1,,2 * * * * *", "second"),
        ("-1 * * * * *", "second"),
        ("? * * * * *", "second"),
        ("0 0 0 30 2 *", "does not occur"),
    ],
)
def test_a_wrong_expression_names_the_field(expression: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ncrontab.parse(expression)


@given(
    moment=st.datetimes(
        min_value=datetime(2024, 1, 1), max_value=datetime(2060, 1, 1), timezones=st.just(UTC)
    ),
    seconds=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    weekdays=st.sets(st.integers(0, 6), min_size=1, max_size=3),
)
def test_an_occurrence_is_later_and_fits_and_none_was_skipped(
    moment: datetime, seconds: set[int], minutes: set[int], weekdays: set[int]
) -> None:
    def join(values: set[int]) -> str:
        return ",".join(str(value) for value in values)

    schedule = ncrontab.parse(f"{join(seconds)} {join(minutes)} * * * {join(weekdays)}")
    following = schedule.next_after(moment)
    assert following > moment
    assert following.second in seconds
    assert following.minute in minutes
    assert following.isoweekday() % 7 in weekdays
    # No occurrence between: going back by one occurrence's smallest gap finds the same one.
    middle = moment + (following - moment) / 2
    assert schedule.next_after(middle) == following
