"""All projections of the system and their status."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.followers import Followers
from domain.eventlog.models import Lag
from domain.projections.following.contract import Projection
from domain.projections.following.error_patterns import ErrorPatterns
from domain.projections.following.parked import parked_counts
from domain.projections.following.runner import ProjectionOutdated, Runner, follower_of
from domain.projections.following.usage_daily import UsageDaily
from domain.projections.intents import INTENT_STATES
from domain.projections.resume_rows import resume_rows

logger = logging.getLogger(__name__)

_SQL = load_statements(Path(__file__).with_name("registry.sql"))

INTENT_STATES_VERSION: Final = 1

#: The projections that follow the log.
FOLLOWING: tuple[Projection[Any], ...] = (UsageDaily(), ErrorPatterns())

#: A projection that is further behind does not run or cannot keep up; seconds.
LAG_SECONDS = 60.0

NAMES = (INTENT_STATES, *(projection.name for projection in FOLLOWING))


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """The status of a projection.

    Attributes:
        kind: ``inline``: written with the events; ``following``: some seconds later.
        version: the version of its code.
        built_by: the version of the code that built its tables; if it differs, a rebuild is due.
        lag_events: events it has not processed yet.
        lag_seconds: age of the oldest of them.
        oldest_lane: the lane in which that lies.
        parked: number of streams that wait for a fix.
        moved_at: when it last moved.
        rebuilding: share of the events that a started rebuild has processed, 0 to 1; None without
            a rebuild.
    """

    name: str
    kind: Literal["inline", "following"]
    version: int
    built_by: int | None
    lag_events: int
    lag_seconds: float
    oldest_lane: int | None
    parked: int
    moved_at: datetime | None
    rebuilding: float | None

    @property
    def problem(self) -> str | None:
        """What is wrong and how to fix it; None if all is well."""
        if self.built_by != self.version:
            return (
                f"built by version {self.built_by} of its code, which is at {self.version}: "
                f"run `qlp projections rebuild {self.name}`"
            )
        if self.parked:
            return f"{self.parked} streams are parked: see `qlp projections parked {self.name}`"
        if self.lag_seconds > LAG_SECONDS:
            return (
                f"{self.lag_seconds:.0f} s behind the log in lane {self.oldest_lane}: "
                "does its timer run?"
            )
        return None


def following(name: str) -> Projection[Any]:
    """The projection of this name that follows the log.

    Raises:
        LookupError: there is none; the message lists the existing ones.
    """
    for projection in FOLLOWING:
        if projection.name == name:
            return projection
    known = ", ".join(projection.name for projection in FOLLOWING)
    raise LookupError(f"{name!r} does not follow the log; those that do: {known}")


class Projections:
    """The projections of one application."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._followers = Followers(pool)
        self._runners = [Runner(pool, projection) for projection in FOLLOWING]

    async def run_until_caught_up(self) -> int:
        """Update all projections, each for a limited time; returns the number of events read.

        One that fails does not hold up the others.

        Raises:
            ExceptionGroup: the errors, after all projections have run.
        """
        count = 0
        errors: list[Exception] = []
        for runner in self._runners:
            try:
                count += await runner.run_until_caught_up()
                await runner.resume_readable()
            except ProjectionOutdated as error:
                logger.error("%s", error)  # until an operator acts; health reports it too
            except Exception as error:  # noqa: BLE001 raised after the others have run
                errors.append(error)
        try:
            await resume_rows(self._pool)
        except Exception as error:  # noqa: BLE001 as above
            errors.append(error)
        if errors:
            raise ExceptionGroup("projections did not catch up", errors)
        return count

    async def status(self) -> list[ProjectionStatus]:
        """The status of each projection."""
        parked = await parked_counts(self._pool)
        moved = await self._followers.moved()
        built = {name: rest for name, *rest in await fetch(self._pool, _SQL["built"], {})}
        statuses = []
        for name in NAMES:
            built_by, rebuilding = built.get(name, (None, None))
            inline = name == INTENT_STATES
            lag = Lag({}) if inline else await self._followers.lag(follower_of(name))
            statuses.append(
                ProjectionStatus(
                    name=name,
                    kind="inline" if inline else "following",
                    version=INTENT_STATES_VERSION if inline else following(name).version,
                    built_by=built_by,
                    lag_events=lag.events,
                    lag_seconds=lag.seconds,
                    oldest_lane=lag.oldest,
                    parked=parked.get(name, 0),
                    moved_at=moved.get(follower_of(name)),
                    rebuilding=rebuilding,
                )
            )
        return statuses
