"""Timer triggers: one loop per function, so a timer never overlaps with itself.

As in the WebJobs TimerListener, occurrences missed while the function runs are skipped. One missed
while the host was down runs at start, as past due, if the host has a ``--state-dir`` and the
schedule is monitored (``use_monitor``, by default for intervals of a minute and more).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from infra.local.functions_host import timespan
from infra.local.functions_host.converters import Datum, converter
from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.invocation import FunctionFailedError, Invoker
from infra.local.functions_host.model import HostedFunction, TimerTrigger
from infra.local.functions_host.timer import ncrontab

logger = logging.getLogger(__name__)

#: Upper limit of a sleep, since the wall clock may jump (a laptop that was suspended).
MAX_SLEEP_SECONDS = 30.0

_MONITORED_FROM = timedelta(minutes=1)

NextAfter = Callable[[datetime], datetime]


class Clock(Protocol):
    """The time source of the timers."""

    def now(self) -> datetime:
        """Return the current time, aware, UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time, aware, UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@dataclass
class ScheduleStatus:
    """When the timer last ran (None before its first run) and runs next."""

    last: datetime | None
    next: datetime


class StatusStore:
    """Stores schedules in a directory, one JSON file per function; without one, nowhere."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    def load(self, function: str) -> ScheduleStatus | None:
        """Return what was stored; an unreadable file is ignored with a warning."""
        if self._directory is None:
            return None
        path = self._path(self._directory, function)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            last = document["Last"]
            return ScheduleStatus(
                datetime.fromisoformat(last) if last else None,
                datetime.fromisoformat(document["Next"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("timer %s: %s cannot be read and is ignored: %s", function, path, error)
            return None

    def save(self, function: str, status: ScheduleStatus) -> None:
        """Store ``status``; after a crash the file holds either the old or the new one."""
        if self._directory is None:
            return
        path = self._path(self._directory, function)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            draft.write_text(json.dumps(_status_json(status)), encoding="utf-8")
            draft.replace(path)
        except OSError as error:
            logger.error("timer %s: its schedule cannot be stored: %s", function, error)

    @staticmethod
    def _path(directory: Path, function: str) -> Path:
        return directory / f"{function}.timer.json"


def next_occurrence(schedule: str) -> NextAfter:
    """Return the function from a time to the next run; ValueError if ``schedule`` is not valid."""
    if " " in schedule.strip():
        return ncrontab.parse(schedule).next_after
    interval = timespan.parse(schedule)
    if interval < timedelta(seconds=1):
        raise ValueError(f"the interval {schedule!r} must be at least 00:00:01")
    return lambda moment: moment + interval


class TimerLoop:
    """Runs a timer function on its schedule until cancelled; ``in_run`` while it is running."""

    def __init__(
        self, function: HostedFunction, invoker: Invoker, store: StatusStore, clock: Clock
    ) -> None:
        trigger = function.trigger
        assert isinstance(trigger, TimerTrigger)
        self._function = function
        self._trigger = trigger
        self._invoker = invoker
        self._clock = clock
        try:
            self._next_after = next_occurrence(trigger.schedule)
        except ValueError as error:
            raise HostStartupError(f"function {function.name}, schedule: {error}") from error
        self._store = store if self._is_monitored() else StatusStore(None)
        self.in_run = False

    def _is_monitored(self) -> bool:
        if self._trigger.use_monitor is False:
            return False
        first = self._next_after(self._clock.now())
        return self._next_after(first) - first >= _MONITORED_FROM

    async def run(self) -> None:
        """Run the function at every occurrence."""
        status = await self._at_start()
        while True:
            while (left := (status.next - self._clock.now()).total_seconds()) > 0:
                await self._clock.sleep(min(left, MAX_SLEEP_SECONDS))
            status = await self._fire(status, past_due=False)

    async def _at_start(self) -> ScheduleStatus:
        now = self._clock.now()
        known = self._store.load(self._function.name)
        status = ScheduleStatus(known.last if known else None, self._next_after(now))
        if known is not None and known.next < now:
            logger.info("timer %s is past due since %s", self._function.name, known.next)
            return await self._fire(ScheduleStatus(known.last, known.next), past_due=True)
        if self._trigger.run_on_startup:
            return await self._fire(status, past_due=False)
        self._store.save(self._function.name, status)
        return status

    async def _fire(self, status: ScheduleStatus, *, past_due: bool) -> ScheduleStatus:
        started = self._clock.now()
        self.in_run = True
        try:
            await self._invoker.run(self._function, timer_request(status, past_due=past_due))
        except FunctionFailedError:
            logger.info("timer %s runs again at its next occurrence", self._function.name)
        finally:
            self.in_run = False
        # Occurrences during the run are skipped; a TimeSpan counts from the start of the run.
        after = self._next_after(started)
        now = self._clock.now()
        status = ScheduleStatus(started, after if after > now else self._next_after(now))
        self._store.save(self._function.name, status)
        return status


def timer_request(status: ScheduleStatus | None, *, past_due: bool) -> object:
    """Return the ``func.TimerRequest`` that the worker's converter makes of the host's JSON."""
    document = {
        "Schedule": {"AdjustForDST": True},
        "ScheduleStatus": _status_json(status) if status else None,
        "IsPastDue": past_due,
    }
    data = Datum(json.dumps(document), "json")
    return converter("timerTrigger").decode(data, trigger_metadata=None)


def _status_json(status: ScheduleStatus) -> dict[str, str | None]:
    last = status.last.isoformat() if status.last else None
    return {"Last": last, "Next": status.next.isoformat(), "LastUpdated": last}
