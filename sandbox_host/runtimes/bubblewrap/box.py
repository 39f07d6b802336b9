"""One bubblewrap box that waits for a job, then runs it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from domain.contracts.job import JobLimits
from sandbox_host.linux.cgroups.types import Cgroup, GroupLimits, GroupUsage
from sandbox_host.linux.cpus import ProgramCpus
from sandbox_host.linux.network_watch import NetworkWatch
from sandbox_host.run.job import PreparedJob
from sandbox_host.run.output import CappedStream
from sandbox_host.runtimes.base import CPUS, TooSlow, environment_of, files_refused
from sandbox_host.runtimes.bubblewrap import shell
from sandbox_host.runtimes.bubblewrap.command_line import OWN_PROCESSES
from sandbox_host.runtimes.bubblewrap.files import BoxFiles
from sandbox_host.runtimes.bubblewrap.inputs import InputFolder
from sandbox_host.runtimes.bubblewrap.process import BwrapProcess

#: Seconds ``bwrap`` may take to set up a box, and its shell to start a program.
SETUP_SECONDS = 10.0


@dataclass(eq=False)
class BwrapBox:
    """A box that waits for a job, then runs it.

    Attributes:
        init: its PID 1, in this host's PID namespace.
        before: what it had used when it began to wait; without a cgroup, all its CPU time until
            then counts as system time.
        limits: the limits in force.
        closing: releases everything made for it.
    """

    process: BwrapProcess
    init: int
    files: BoxFiles
    network: NetworkWatch
    inputs: InputFolder
    group: Cgroup | None
    cpus: ProgramCpus | None
    before: GroupUsage
    limits: JobLimits
    closing: contextlib.AsyncExitStack

    async def broken(self) -> None:
        """See `pool.Box.broken`; a waiting box ends only if something is wrong with it."""
        await self.process.ended()

    def cost_bytes(self) -> int | None:
        """See `sandbox_host.runtimes.pool.pool.Box.cost_bytes`."""
        return self.before.peak_memory_bytes

    async def begin(
        self, job: PreparedJob, command: list[str], streams: tuple[CappedStream, CappedStream]
    ) -> None:
        """Set the job's limits, write its files, and have the program started.

        Raises:
            BoxGone: the box died before the program started.
            InvalidJob: the kernel cannot accept the files' names.
            OSError: the kernel refuses a limit.
            RuntimeFailure: the kernel refuses a file, the box cannot be resized, or its shell does
                not start the program.
        """
        limits = job.job.limits
        if self.group is not None and group_limits(limits) != group_limits(self.limits):
            self.group.limit(group_limits(limits))
        if limits.disk_bytes != self.limits.disk_bytes:
            self.files.resize(limits.disk_bytes)
        self.limits = limits
        try:
            await asyncio.to_thread(self.inputs.write, self.files.workspace, job.files)
        except OSError as error:
            raise files_refused(error) from error
        line = shell.line(command, environment_of(job), limits, has_group=self.group is not None)
        try:
            async with asyncio.timeout(SETUP_SECONDS):
                await self.process.start(line, job.stdin, streams)
        except TimeoutError:
            raise TooSlow(
                f"the box did not start the program within {SETUP_SECONDS:.0f} s"
            ) from None


def group_limits(limits: JobLimits) -> GroupLimits:
    """The limits of a box's cgroup for a job with ``limits``."""
    return GroupLimits(limits.memory_bytes, limits.processes + OWN_PROCESSES, CPUS)
