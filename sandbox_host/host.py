"""Puts the host together and sees it through: start, signals, drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys

from sandbox_host.bus import Bus
from sandbox_host.consumer import Consumer
from sandbox_host.health import HealthServer
from sandbox_host.processes import adopt_orphans
from sandbox_host.runtimes.base import Runtime
from sandbox_host.runtimes.bubblewrap import BubblewrapRuntime
from sandbox_host.runtimes.docker import DockerRuntime
from sandbox_host.settings import Settings
from sandbox_host.status import HostStatus
from sandbox_host.supervisor import Supervisor

log = logging.getLogger(__name__)

_EXIT_AT_ONCE = 130


def runtimes_of(settings: Settings) -> list[Runtime]:
    """The runtimes to try, in the order of the settings."""
    made: list[Runtime] = []
    for name in dict.fromkeys(settings.runtimes):
        made.append(DockerRuntime(settings.image) if name == "docker" else BubblewrapRuntime())
    return made


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    Raises:
        OSError: the health port cannot be listened on.
    """
    adopt_orphans()
    status = HostStatus()
    supervisor = Supervisor(runtimes_of(settings))
    health = HealthServer(supervisor, status, settings.health_host, settings.health_port)
    try:
        url = await health.start()
        stopped = _stop_on_signals()
        ready = {"ready": True, "health": url, "pid": os.getpid()}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        watching = asyncio.create_task(supervisor.watch())
        consumer = Consumer(Bus(settings), supervisor, status, settings.concurrency)
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait({stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
        consumer.stop()
        await consumer.drain(settings.drain_seconds)
        stopping.cancel()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching  # raises what ended it, if it ended by itself
    finally:
        await supervisor.aclose()
        await health.aclose()


def _stop_on_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process."""
    stopped = asyncio.Event()

    def on_signal() -> None:
        if stopped.is_set():
            # Boxes of bubblewrap die with this process, docker's with their attached stream.
            os._exit(_EXIT_AT_ONCE)
        log.info("stopping; a second signal ends at once")
        stopped.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stopped
