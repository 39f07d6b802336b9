"""Sends the jobs of interrupted programs again: the broker loses its messages when it stops."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from domain.database.pool import open_pool
from domain.errors import OperationError
from domain.messaging.bus import bus_publisher
from domain.messaging.routing import Destinations
from domain.operations.redrive import Redrive
from domain.operations.selection import Selection
from domain.settings import Settings

_RUNNING = Selection(status="running")
_MOST, _PER_SECOND = 500, 500.0


async def run_interrupted_again(environment: Mapping[str, str]) -> None:
    """Send the latest job of each running intent, oldest first, under the ids of the first time.

    Left to recovery, each would wait for as long as its program may take, and longer. What is not
    sent here is still left to it.
    """
    settings = Settings.from_environment(environment)
    url = environment["DATABASE_URL"]
    pool = await open_pool(url, min_size=1, max_size=1, application_name="qlp-stack")
    try:
        async with bus_publisher(settings) as publisher:
            to = Destinations(settings.events_topic, settings.jobs_queue)
            redrive = Redrive(pool, to, publisher, settings.run_tokens)
            found = await redrive.preview(_RUNNING, _MOST)
            with contextlib.suppress(OperationError):
                await redrive.execute(_RUNNING, _MOST, "sandbox", found, per_second=_PER_SECOND)
    finally:
        await pool.close()
