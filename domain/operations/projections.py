"""What operators do with projections: rebuild, verify, resume parked streams."""

from __future__ import annotations

import os

from psycopg_pool import AsyncConnectionPool

from domain.eventlog.log import EventLog
from domain.projections.following.parked import ParkedStream
from domain.projections.following.runner import Runner
from domain.projections.intents import INTENT_STATES
from domain.projections.rebuild.contract import Builder, OnProgress
from domain.projections.rebuild.following import FollowingBuilder
from domain.projections.rebuild.following_processes import FollowingProcesses
from domain.projections.rebuild.intents import IntentStatesBuilder
from domain.projections.rebuild.rebuild import Rebuild
from domain.projections.rebuild.workers import FoldingHere, FoldingProcesses
from domain.projections.registry import NAMES, following
from domain.projections.verify.contract import Verified
from domain.projections.verify.following import verify_following
from domain.projections.verify.intents import verify_intents

#: Events per transaction of a rebuild that holds them in memory (PAGE), and of one that does not.
PAGE, LANES_PAGE = 2_000, 10_000

#: Processes that share a rebuild by default. They take a second to start, so the first
#: ALONE_UNTIL events are folded without them.
MAX_WORKERS, ALONE_UNTIL = 4, 50_000


def check_name(name: str) -> str:
    """``name`` if it is a projection's.

    Raises:
        ValueError: it is none; the message names those there are.
    """
    if name not in NAMES:
        raise ValueError(f"there is no projection {name!r}; there are {', '.join(NAMES)}")
    return name


def rebuild(
    pool: AsyncConnectionPool,
    name: str,
    *,
    on_progress: OnProgress,
    rate: float | None = None,
    page: int | None = None,
    workers: int | None = None,
) -> Rebuild:
    """A rebuild of the projection ``name``, to be planned or run.

    Args:
        pool: connections of the tables' owner.
        name: the projection.
        on_progress: called after each page.
        rate: events per second, at most; pages get smaller, so that the load is more even.
        page: events per transaction; None: what suits the projection and the rate.
        workers: processes that share the lanes; with 1, only this one. None: this one; without a
            rate, and with more than `ALONE_UNTIL` events, one per core, at most `MAX_WORKERS`.

    Raises:
        ValueError: there is no such projection, or processes cannot keep to the rate.
    """
    inline = check_name(name) == INTENT_STATES
    if page is None:
        page = LANES_PAGE if inline else PAGE
    if rate is not None:
        page = max(1, min(page, int(rate / 4)))
    if rate is not None:
        workers = workers or 1
    builder: Builder
    if inline:
        builder = _intents_builder(pool, page, workers)
    elif rate is not None and workers != 1:
        raise ValueError(f"workers: with a rate, one process rebuilds {name}")
    else:
        builder = _following_builder(pool, name, page, workers)
    return Rebuild(pool, builder, on_progress, rate)


def _intents_builder(
    pool: AsyncConnectionPool, page: int, workers: int | None
) -> IntentStatesBuilder:
    log = EventLog(pool)

    def processes(count: int) -> FoldingProcesses:
        return FoldingProcesses(str(pool.conninfo), "none", count)

    if workers is not None and workers > 1:
        return IntentStatesBuilder(log, processes(workers), page)
    cores = _cores()
    later = (ALONE_UNTIL, processes(cores)) if workers is None and cores > 1 else None
    return IntentStatesBuilder(log, FoldingHere(pool), page, later)


def _following_builder(
    pool: AsyncConnectionPool, name: str, page: int, workers: int | None
) -> FollowingBuilder:
    count = _cores() if workers is None else workers
    processes = None
    if count > 1:
        alone_until = ALONE_UNTIL if workers is None else 0
        processes = FollowingProcesses(str(pool.conninfo), "none", count, alone_until)
    return FollowingBuilder(pool, following(name), page, processes)


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)), MAX_WORKERS)


async def verify(pool: AsyncConnectionPool, name: str, sample: int | None = None) -> Verified:
    """Compare the live rows of a projection with a fresh fold of the log; reads only.

    Args:
        pool: connections of the application or the owner.
        name: the projection.
        sample: about how many random rows; None for all.

    Raises:
        ValueError: there is no such projection, or it cannot be sampled.
    """
    if check_name(name) == INTENT_STATES:
        return await verify_intents(pool, sample)
    if sample is not None:
        raise ValueError(
            f"sample: {name} sums up all events, so it can only be verified as a whole"
        )
    return await verify_following(pool, following(name))


async def resume(pool: AsyncConnectionPool, name: str, stream_id: str) -> ParkedStream | None:
    """Process the events that a parked stream has missed, and unpark it.

    Returns:
        the stream, with the new error, if it is still parked; else None.

    Raises:
        ValueError: there is no such projection that follows the log, or the stream is not parked.
        domain.projections.following.runner.ProjectionOutdated: the tables must be rebuilt first.
    """
    if check_name(name) == INTENT_STATES:
        raise ValueError(
            f"{name} is written with the events, so parked streams need a rebuild of it"
        )
    try:
        return await Runner(pool, following(name)).resume(stream_id)
    except LookupError as error:
        raise ValueError(str(error)) from None
