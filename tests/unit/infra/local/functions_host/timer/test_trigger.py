"""Timers run when due, once, with the status that the real host would give."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.invocation import Invoker
from infra.local.functions_host.model import HostedFunction, TimerTrigger
from infra.local.functions_host.timer.trigger import StatusStore, TimerLoop

START = datetime(2026, 11, 23, 10, 0, 30, tzinfo=UTC)


class FakeClock:
    """Time that passes only by sleeping; ends the timer's loop after ``until``."""

    def __init__(self, now: datetime = START, until: datetime | None = None) -> None:
        self._now = now
        self._until = until or now + timedelta(minutes=5)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        if self._now > self._until:
            raise asyncio.CancelledError
        await asyncio.sleep(0)


def timer(
    call: Callable[[Any], Awaitable[None]],
    schedule: str,
    *,
    run_on_startup: bool = False,
    use_monitor: bool | None = None,
) -> HostedFunction:
    trigger = TimerTrigger("timer", schedule, run_on_startup, use_monitor)
    return HostedFunction("tick", call, True, False, False, trigger, "/", False, [])


async def run(function: HostedFunction, clock: FakeClock, store: StatusStore | None = None) -> None:
    invoker = Invoker(timeout=10, threads=1)
    loop = TimerLoop(function, invoker, store or StatusStore(None), clock)
    with pytest.raises(asyncio.CancelledError):
        await loop.run()


async def test_a_timer_runs_at_each_occurrence_and_knows_last_and_next() -> None:
    clock = FakeClock(until=START + timedelta(minutes=3))
    runs: list[tuple[datetime, Any]] = []

    async def tick(timer: Any) -> None:
        runs.append((clock.now(), timer))

    await run(timer(tick, "0 * * * * *"), clock)
    minutes = [datetime(2026, 11, 23, 10, minute, tzinfo=UTC) for minute in (1, 2, 3)]
    assert [moment for moment, _ in runs] == minutes
    assert [request.past_due for _, request in runs] == [False] * 3
    first, second = runs[0][1].schedule_status, runs[1][1].schedule_status
    assert first == {"Last": None, "Next": minutes[0].isoformat(), "LastUpdated": None}
    assert second["Last"] == minutes[0].isoformat()
    assert second["Next"] == minutes[1].isoformat()


@pytest.mark.parametrize(
    ("schedule", "takes", "run_on_startup", "minutes", "expected"),
    [
        pytest.param("00:01:00", 10, False, 3, [60, 120, 180], id="a timespan counts from a start"),
        pytest.param("0 * * * * *", 150, False, 6, [30, 210], id="a long run skips occurrences"),
        pytest.param("0 * * * * *", 0, True, 1, [0, 30], id="run on startup, then on schedule"),
    ],
)
async def test_runs_do_not_overlap_and_start_when_due(
    schedule: str, takes: float, run_on_startup: bool, minutes: int, expected: list[int]
) -> None:
    """``expected``: seconds from the loop's start to each run's."""
    clock = FakeClock(until=START + timedelta(minutes=minutes))
    runs: list[float] = []

    async def tick(timer: Any) -> None:
        runs.append((clock.now() - START).total_seconds())
        clock.advance(takes)

    await run(timer(tick, schedule, run_on_startup=run_on_startup), clock)
    assert runs == expected


async def test_a_failing_run_is_followed_by_the_next() -> None:
    clock = FakeClock(until=START + timedelta(minutes=2))
    runs: list[datetime] = []

    async def tick(timer: Any) -> None:
        runs.append(clock.now())
        raise ValueError("broken")

    await run(timer(tick, "0 * * * * *"), clock)
    assert len(runs) == 2


async def test_an_occurrence_missed_while_the_host_was_down_runs_as_past_due(
    tmp_path: Path,
) -> None:
    past_due: list[bool] = []

    async def tick(timer: Any) -> None:
        past_due.append(timer.past_due)

    function = timer(tick, "0 0 * * * *")
    await run(function, FakeClock(until=START + timedelta(minutes=1)), StatusStore(tmp_path))
    assert past_due == []  # nothing was due yet, and now the host is down for two hours
    later = START + timedelta(hours=2)
    clock = FakeClock(later, until=later + timedelta(minutes=61))
    await run(function, clock, StatusStore(tmp_path))
    assert past_due == [True, False]


@pytest.mark.parametrize(
    ("schedule", "use_monitor"), [("*/10 * * * * *", None), ("0 0 * * * *", False)]
)
async def test_an_unmonitored_timer_is_never_past_due(
    tmp_path: Path, schedule: str, use_monitor: bool | None
) -> None:
    async def tick(timer: Any) -> None:
        assert not timer.past_due

    function = timer(tick, schedule, use_monitor=use_monitor)
    await run(function, FakeClock(until=START + timedelta(minutes=1)), StatusStore(tmp_path))
    assert StatusStore(tmp_path).load("tick") is None


async def test_a_damaged_status_file_starts_afresh(tmp_path: Path) -> None:
    (tmp_path / "tick.timer.json").write_text('{"Last": 5}')
    runs: list[datetime] = []
    clock = FakeClock(until=START + timedelta(minutes=31))

    async def tick(timer: Any) -> None:
        assert not timer.past_due
        runs.append(clock.now())

    await run(timer(tick, "0 30 * * * *"), clock, StatusStore(tmp_path))
    assert len(runs) == 1


@pytest.mark.parametrize(
    "schedule", ["every minute please", "00:00:00", "tomorrow", "0 99 * * * *"]
)
async def test_a_wrong_schedule_keeps_the_host_from_starting(schedule: str) -> None:
    async def tick(timer: Any) -> None: ...

    invoker = Invoker(timeout=1, threads=1)
    with pytest.raises(HostStartupError, match="function tick, schedule"):
        TimerLoop(timer(tick, schedule), invoker, StatusStore(None), FakeClock())
