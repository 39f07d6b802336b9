"""Composes the host and runs it: start, signals, drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys

from sandbox_host.host.admission import MemoryBudget, MemoryShares
from sandbox_host.host.bus import Bus
from sandbox_host.host.consumer import Consumer
from sandbox_host.host.health import HealthServer
from sandbox_host.host.heartbeat import HeartbeatClient
from sandbox_host.host.inputs import InputFetcher
from sandbox_host.host.job_runner import Runner
from sandbox_host.host.status import HostStatus
from sandbox_host.host.supervisor import Supervisor
from sandbox_host.host.uploads import Uploader
from sandbox_host.linux.processes import adopt_orphans, stop_ignoring_signals
from sandbox_host.runtimes.base import Runtime
from sandbox_host.runtimes.choice import RuntimeOptions, make_runtime
from sandbox_host.settings import REMOVE_SECONDS, Settings

log = logging.getLogger(__name__)

_EXIT_AT_ONCE = 130


def runtimes_of(settings: Settings, pool_bytes: int) -> list[Runtime]:
    """The runtimes to try, in the order of the settings."""
    options = RuntimeOptions(
        images=settings.images,
        engine_runtime=settings.engine_runtime,
        pool_memory_bytes=pool_bytes,
        sessions_endpoint=settings.sessions_endpoint,
    )
    return [make_runtime(name, options) for name in settings.runtimes]


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    Raises:
        OSError: the host cannot listen on the health port.
    """
    adopt_orphans()
    stop_ignoring_signals()
    status = HostStatus()
    shares = MemoryShares.of_host(settings.memory_bytes, settings.pool_memory_bytes)
    memory = MemoryBudget(shares.programs)
    runtimes = runtimes_of(settings, shares.pool)
    supervisor = Supervisor(runtimes, canary_seconds=settings.canary_seconds)
    heartbeat = HeartbeatClient(settings.app_url, _host_name()) if settings.app_url else None
    inputs, uploader = InputFetcher(settings.app_url), Uploader(settings.app_url)
    runner = Runner(supervisor, memory, heartbeat, inputs, uploader, status)
    health = HealthServer(
        supervisor, memory, heartbeat, status, settings.health_host, settings.health_port
    )
    try:
        url = await health.start()
        stopped = _stop_on_signals(settings.drain_seconds)
        ready = {"ready": True, "health": url, "pid": os.getpid()}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        background = [asyncio.create_task(supervisor.watch())]
        if heartbeat is not None:
            background.append(asyncio.create_task(heartbeat.beat_forever()))
        consumer = Consumer(Bus(settings), supervisor, runner, status, settings.concurrency)
        await _until_stopped(stopped, background)
        consumer.stop()
        await consumer.drain(settings.drain_seconds)
        for task in background:
            task.cancel()
        for task in background:
            with contextlib.suppress(asyncio.CancelledError):
                await task  # raises the error that ended it, if one did
    finally:
        await _release(supervisor)
        await health.aclose()


async def _release(supervisor: Supervisor) -> None:
    try:
        async with asyncio.timeout(REMOVE_SECONDS):
            await supervisor.aclose()
    except TimeoutError:
        log.warning("not all boxes are removed after %g s; the next start does it", REMOVE_SECONDS)


async def _until_stopped(stopped: asyncio.Event, background: list[asyncio.Task[None]]) -> None:
    """Wait for the event, or for a background task to end, which none should."""
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({stopping, *background}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()


def _host_name() -> str:
    """The name of this host in the application's logs."""
    return f"{socket.gethostname()}/{os.getpid()}"


def _stop_on_signals(drain_seconds: float) -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process."""
    stopped = asyncio.Event()

    def on_signal() -> None:
        if stopped.is_set():
            # Bubblewrap boxes die with this process, docker boxes with their attached stream.
            os._exit(_EXIT_AT_ONCE)
        log.info(
            "stopping; programs have %g s to end; a second signal exits at once", drain_seconds
        )
        stopped.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stopped
