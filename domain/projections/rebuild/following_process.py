"""A process that builds a projection from some lanes at a time, beside others of the same rebuild.

Standard input: a line of JSON with the database's URL, the role, the projection's name, the run and
the events of a page. Standard output: a line of JSON for each page. The process ends when there is
nothing more to process, or with its page when its input ends, so it does not outlive its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg_pool import PoolTimeout

from domain.contracts.redaction import guard
from domain.database.outages import outage_of
from domain.database.pool import open_pool
from domain.database.statements import load_statements
from domain.eventlog.followers import Followers, Page
from domain.memory import tune_gc
from domain.projections.following.batch import apply_batch
from domain.projections.following.contract import Projection
from domain.projections.rebuild.following import follower_of_rebuild, tables_of
from domain.projections.rebuild.shadow import Shadow
from domain.projections.registry import following

_SQL = load_statements(Path(__file__).with_name("following.sql"))


#: SQLSTATEs of transactions that waited or took too long.
_STOOD_STILL = ("25P03", "25P04")

#: Between two looks at parts that other processes hold, seconds.
_PAUSE = 0.2


async def _serve(
    url: str, role: str, projection: Projection[Any], run: str, page: int, ended: threading.Event
) -> None:
    pool = await open_pool(url, min_size=1, max_size=1, role=role, application_name="qlp-rebuild")
    followers, follower = Followers(pool), follower_of_rebuild(projection.name)
    try:
        while not ended.is_set():
            try:
                async with followers.next_page(follower, most_events=page) as events:
                    if events is not None and not await _applied(projection, run, events):
                        return
            except psycopg.Error as error:
                if _is_undone(error):
                    continue  # the page is another's, or this one's again
                raise
            if events is not None:
                _say(processed=len(events.events))
            elif not (await followers.lag(follower)).lanes:
                return
            else:
                # Should the one that holds the rest end before it is done.
                await asyncio.sleep(_PAUSE)
    finally:
        await pool.close()


def _is_undone(error: psycopg.Error) -> bool:
    """Whether a page was given up: this process stood still, or another in whose way it was."""
    if error.sqlstate is None:  # the reason may be lost with the connection
        return isinstance(error, psycopg.OperationalError) and not isinstance(error, PoolTimeout)
    outage = outage_of(error)
    return error.sqlstate in _STOOD_STILL or (outage is not None and outage.passing)


async def _applied(projection: Projection[Any], run: str, page: Page) -> bool:
    """Apply a page; False if another run has taken over."""
    connection = page.connection
    params = {"projection": projection.name, "run": run}
    if not (await connection.execute(_SQL["is_of_this_run"], params)).rowcount:
        return False
    await connection.execute(_SQL["not_durable"])
    await Shadow(projection.name, tables_of(projection)).use(connection)
    await apply_batch(connection, projection, page.events)
    page.save()
    return True


def _say(**answer: object) -> None:
    os.write(sys.stdout.fileno(), orjson.dumps(answer) + b"\n")


def _wait_for_the_end(ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    ended.set()


def main() -> int:
    """Serve until there is nothing more, or the input ends; 1 if the output is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # failures are reported below
    guard(os.environ)
    tune_gc()
    url, role, name, run, page = orjson.loads(sys.stdin.buffer.readline())
    ended = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=[ended], daemon=True).start()
    try:
        asyncio.run(_serve(url, role, following(name), run, page, ended))
    except BrokenPipeError:
        return 1
    except Exception as error:
        if outage_of(error) is None:
            raise
        with contextlib.suppress(BrokenPipeError):
            _say(unavailable=str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
