"""Chooses the runtime, has leftovers of dead hosts removed, retries while none is ready."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from sandbox_host.run.events import security_event
from sandbox_host.runtimes.base import Pooled, Readiness, Runtime

log = logging.getLogger(__name__)

#: Seconds between attempts while no runtime is ready.
RETRY_SECONDS = 10.0

#: Seconds after which a runtime that has run nothing must run its canary again.
CANARY_SECONDS = 300.0


class Supervisor:
    """Uses the first of ``runtimes`` whose canary runs, until a later canary fails.

    Args:
        retry_seconds: between attempts while no runtime is ready.
        canary_seconds: after the last successful run, until the canary runs again.
    """

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        retry_seconds: float = RETRY_SECONDS,
        canary_seconds: float = CANARY_SECONDS,
    ) -> None:
        self._runtimes = runtimes
        self._retry_seconds = retry_seconds
        self._canary_seconds = canary_seconds
        self._suspected = asyncio.Event()
        self._ready = asyncio.Event()
        self._chosen: Runtime | None = None
        self._proved_at = 0.0
        self._reaped = False
        self.readiness: dict[str, Readiness] = {}
        for runtime in runtimes:
            if isinstance(runtime, Pooled):
                runtime.tell_of_trouble(self.suspect)

    @property
    def runtime(self) -> Runtime | None:
        """The runtime in use."""
        return self._chosen

    @property
    def proof_age(self) -> float | None:
        """Seconds since the runtime in use last ran a program, or a canary, to its end."""
        return time.monotonic() - self._proved_at if self._chosen else None

    async def available(self) -> Runtime:
        """Wait until a runtime is ready; that runtime."""
        while self._chosen is None:
            await self._ready.wait()
        return self._chosen

    def suspect(self) -> None:
        """Have the runtime in use checked again, because a run, or the making of a box, failed."""
        self._suspected.set()

    def proved(self) -> None:
        """Note that a run ended as it should, which proves as much as a canary."""
        self._proved_at = time.monotonic()

    async def watch(self) -> None:
        """Choose a runtime, and choose again when needed, until cancelled."""
        while True:
            if self._chosen is None:
                await self._choose()
            try:
                await asyncio.wait_for(self._suspected.wait(), self._seconds_to_check())
            except TimeoutError:
                if self._chosen is None or self._seconds_to_check() > 0:
                    continue
            self._suspected.clear()
            await self._recheck()

    def _seconds_to_check(self) -> float:
        """Seconds until the next attempt, or until the runtime in use is checked again."""
        if self._chosen is None:
            return self._retry_seconds
        return max(0.0, self._proved_at + self._canary_seconds - time.monotonic())

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
        # The first time, reap for every runtime: an earlier host may have used another one.
        reaping = [runtime] if self._reaped else self._runtimes
        reaped = sum([await _reap(one) for one in reaping])
        self._reaped = True
        details = self.readiness[runtime.name].details
        log.info("using %s (%s); %d leftovers removed", runtime.name, details, reaped)
        self.proved()
        self._chosen = runtime
        self._ready.set()

    async def _recheck(self) -> None:
        if self._chosen is None:
            return
        found = await self._chosen.preflight()
        self.readiness[self._chosen.name] = found
        if found.ready:
            self.proved()
            await _reap(self._chosen)  # also removes what could not be removed before
            return
        security_event(
            "canary_failed",
            f"{self._chosen.name} failed: {found.reason}; {found.fix}",
            runtime=self._chosen.name,
            reason=found.reason,
        )
        self._ready.clear()
        self._chosen = None

    async def aclose(self) -> None:
        """Release every runtime."""
        for runtime in self._runtimes:
            await runtime.aclose()


async def _reap(runtime: Runtime) -> int:
    """What dead hosts have left; a runtime that cannot remove it can still run programs."""
    try:
        return await runtime.reap()
    except Exception:
        log.exception("%s: what dead hosts have left was not removed", runtime.name)
        return 0
