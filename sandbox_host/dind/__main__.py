"""``python -m sandbox_host.dind``, the container's entry point: runs an engine and the host.

The host starts once the engine has its images, or once it is clear that no engine can run. In the
second case the host reports that in ``/health``, takes no job that needs an engine, and keeps
running. SIGTERM drains the host, then stops the engine. When the host ends, so does the container.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from domain.contracts.redaction import guard
from sandbox_host.dind import cgroups, images, privileges
from sandbox_host.dind.engine import Engine, remove_boxes
from sandbox_host.host.engine_status import VARIABLE, EngineStatus
from sandbox_host.logs import configure
from sandbox_host.settings import DEFAULT_IMAGES

log = logging.getLogger("sandbox_host.dind")

_STATUS = Path("/run/qlp/engine.json")
_IMAGES = Path("/images")


class Container:
    """Supervises the two processes."""

    def __init__(self) -> None:
        self._pattern = os.environ.get("QLP_SANDBOX_IMAGES") or DEFAULT_IMAGES
        self._decided = asyncio.Event()
        self._engine = Engine(self._report, self._prepare)
        self._stopped = asyncio.Event()
        self._cleared = self._broken = False

    async def run(self) -> int:
        """Run until the host ends; its exit status."""
        engine = self._start_engine()
        self._take_signals()
        if engine is not None:
            engine.add_done_callback(self._not_kept_running)
        stopping = asyncio.create_task(self._stopped.wait())
        deciding = asyncio.create_task(self._decided.wait())
        await asyncio.wait({stopping, deciding}, return_when=asyncio.FIRST_COMPLETED)
        status = 0 if self._stopped.is_set() else await self._host(stopping)
        if engine is not None:
            engine.cancel()
            await asyncio.gather(engine, return_exceptions=True)
            await self._engine.stop()
        return 1 if self._broken else status

    def _not_kept_running(self, engine: asyncio.Task[None]) -> None:
        """Stop the container: an engine without a supervisor must not keep running."""
        if not engine.cancelled():
            log.error("the engine's supervisor failed", exc_info=engine.exception())
            self._broken = True
            self._stopped.set()

    def _start_engine(self) -> asyncio.Task[None] | None:
        reason = privileges.missing()
        if reason is None:
            try:
                cgroups.make_writable()
                cgroups.delegate()
            except OSError as error:
                reason = f"the container's cgroups cannot be used: {error}"
        if reason is not None:
            self._report(EngineStatus("not_privileged", reason, privileges.FIX))
            log.error("no engine: %s; %s", reason, privileges.FIX)
            return None
        EngineStatus("starting").write(_STATUS)
        return asyncio.create_task(self._engine.keep_running())

    def _report(self, status: EngineStatus) -> None:
        status.write(_STATUS)
        self._decided.set()

    async def _prepare(self) -> None:
        if not self._cleared:
            await asyncio.to_thread(remove_boxes)
            self._cleared = True
        await asyncio.to_thread(images.provide, self._pattern, _IMAGES)

    async def _host(self, stopping: asyncio.Task[bool]) -> int:
        host = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sandbox_host.dind.consumer",
            env={**os.environ, VARIABLE: str(_STATUS)},
            start_new_session=True,
        )
        ended = asyncio.create_task(host.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            log.info("draining the host, then stopping the engine")
            host.terminate()
        return await ended

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)


def main() -> int:
    """Run the container's processes; the exit status."""
    configure()
    guard(os.environ)
    return asyncio.run(Container().run())


if __name__ == "__main__":
    sys.exit(main())
