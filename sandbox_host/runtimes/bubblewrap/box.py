"""One bubblewrap box that waits for a job, then runs it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from domain.contracts.job import JobLimits
from sandbox_host.linux.cgroups.types import Cgroup, GroupLimits, GroupUsage
from sandbox_host.linux.network_watch import NetworkWatch
from sandbox_host.run.job import PreparedJob
from sandbox_host.run.output import CappedStream
from sandbox_host.runtimes.base import CPUS, RuntimeFailure, environment_of, files_refused
from sandbox_host.runtimes.bubblewrap import shell
from sandbox_host.runtimes.bubblewrap.command_line import OWN_PROCESSES
from sandbox_host.runtimes.bubblewrap.files import BoxFiles
from sandbox_host.runtimes.bubblewrap.inputs import InputFolder
from sandbox_host.runtimes.bubblewrap.process import BwrapProcess

#: Seconds ``bwrap`` may take to set a box up, and its shell to take a job.
SETUP_SECONDS = 10.0


@dataclass(eq=False)
class BwrapBox:
    """A box that waits for a job, then runs it.

    Attributes:
        init: its PID 1, as this host numbers it.
        before: what was used until it waited; of the CPU time in system mode at least, where no
            group counts.
        limits: those that hold now.
        closing: gives up all that was made for it.
    """

    process: BwrapProcess
    init: int
    files: BoxFiles
    network: NetworkWatch
    inputs: InputFolder
    group: Cgroup | None
    before: GroupUsage
    limits: JobLimits
    closing: contextlib.AsyncExitStack

    async def broken(self) -> None:
        """See `pool.Box.broken`: a box that waits has no other way to end."""
        await self.process.ended()

    def cost_bytes(self) -> int | None:
        """See `sandbox_host.runtimes.pool.pool.Box.cost_bytes`."""
        return self.before.peak_memory_bytes

    async def begin(
        self, job: PreparedJob, command: list[str], streams: tuple[CappedStream, CappedStream]
    ) -> None:
        """Fit the box to the job, lay its files, have the program started.

        Raises:
            BoxGone: the box died before the program started.
            InvalidJob: the kernel cannot take the files' names.
            OSError: the kernel refuses a limit.
            RuntimeFailure: the kernel refuses a file, or the box cannot be fitted, or takes no job.
        """
        limits = job.job.limits
        if self.group is not None and group_limits(limits) != group_limits(self.limits):
            self.group.limit(group_limits(limits))
        if limits.disk_bytes != self.limits.disk_bytes:
            self.files.resize(limits.disk_bytes)
        self.limits = limits
        try:
            await asyncio.to_thread(self.inputs.lay, self.files.workspace, job.files)
        except OSError as error:
            raise files_refused(error) from error
        line = shell.line(command, environment_of(job), limits, has_group=self.group is not None)
        try:
            async with asyncio.timeout(SETUP_SECONDS):
                await self.process.start(line, job.stdin, streams)
        except TimeoutError:
            raise RuntimeFailure(f"the box took no job in {SETUP_SECONDS:.0f} s") from None


def group_limits(limits: JobLimits) -> GroupLimits:
    """The limits of a box's cgroup for a job's."""
    return GroupLimits(limits.memory_bytes, limits.processes + OWN_PROCESSES, CPUS)
