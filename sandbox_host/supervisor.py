"""Chooses the runtime, and goes on looking while none is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from sandbox_host.runtimes.base import Readiness, Runtime

log = logging.getLogger(__name__)

#: Seconds between attempts while no runtime is ready.
RETRY_SECONDS = 10.0


class Supervisor:
    """The first of ``runtimes`` whose canary runs is used, until it is suspected and fails one."""

    def __init__(self, runtimes: Sequence[Runtime], retry_seconds: float = RETRY_SECONDS) -> None:
        self._runtimes = runtimes
        self._retry_seconds = retry_seconds
        self._suspected = asyncio.Event()
        self._ready = asyncio.Event()
        self._chosen: Runtime | None = None
        self.readiness: dict[str, Readiness] = {}

    @property
    def runtime(self) -> Runtime | None:
        """The runtime in use."""
        return self._chosen

    async def available(self) -> Runtime:
        """Wait until there is a runtime."""
        while self._chosen is None:
            await self._ready.wait()
        return self._chosen

    def suspect(self) -> None:
        """Have the runtime in use checked anew, because a run failed that should not have."""
        self._suspected.set()

    async def watch(self) -> None:
        """Choose, and choose again when needed, until cancelled."""
        while True:
            if self._chosen is None:
                await self._choose()
            wait = None if self._chosen else self._retry_seconds
            try:
                await asyncio.wait_for(self._suspected.wait(), wait)
            except TimeoutError:
                continue
            self._suspected.clear()
            await self._recheck()

    async def _choose(self) -> None:
        for runtime in self._runtimes:
            found = await runtime.preflight()
            changed = self.readiness.get(runtime.name) != found
            self.readiness[runtime.name] = found
            if found.ready:
                await self._use(runtime)
                return
            if changed:
                log.warning("%s is not ready: %s; %s", runtime.name, found.reason, found.fix)

    async def _use(self, runtime: Runtime) -> None:
        reaped = await runtime.reap()
        details = self.readiness[runtime.name].details
        log.info("using %s (%s); %d leftovers removed", runtime.name, details, reaped)
        self._chosen = runtime
        self._ready.set()

    async def _recheck(self) -> None:
        if self._chosen is None:
            return
        found = await self._chosen.preflight()
        self.readiness[self._chosen.name] = found
        if not found.ready:
            log.error("%s failed: %s; %s", self._chosen.name, found.reason, found.fix)
            self._ready.clear()
            self._chosen = None

    async def aclose(self) -> None:
        """Release every runtime."""
        for runtime in self._runtimes:
            await runtime.aclose()
