"""Makes and removes bubblewrap boxes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os

from domain.contracts.job import JobLimits
from sandbox_host.linux.box_users import BUBBLEWRAP_USERS, NoUserFree
from sandbox_host.linux.cgroups.types import Cgroup, GroupUsage
from sandbox_host.linux.network_watch import NetworkWatch
from sandbox_host.linux.processes import descendants, sealed_file
from sandbox_host.linux.watchdog import private_bytes, run_ms
from sandbox_host.run.events import security_event
from sandbox_host.runtimes.base import RuntimeFailure, TooSlow
from sandbox_host.runtimes.bubblewrap import command_line, shell
from sandbox_host.runtimes.bubblewrap.binary import Identity
from sandbox_host.runtimes.bubblewrap.box import SETUP_SECONDS, BwrapBox, group_limits
from sandbox_host.runtimes.bubblewrap.capabilities import HostCapabilities
from sandbox_host.runtimes.bubblewrap.files import BoxFiles
from sandbox_host.runtimes.bubblewrap.inputs import InputFolder
from sandbox_host.runtimes.bubblewrap.process import BwrapProcess
from sandbox_host.runtimes.pool.removal import Removals

#: Kernel memory behind a waiting box, for when no cgroup counts it. Measured: page tables 130 KB,
#: slab 120 to 300 KB, stacks 45 KB.
_KERNEL_BYTES = 384 * 1024

#: Numbers the boxes of this process, across all makers.
_serial = itertools.count()


class BoxMaker:
    """Makes boxes, and removes them in the background.

    Args:
        capabilities: what this machine offers for boxes.

    Attributes:
        adjustable: whether a waiting box can be given any job's limits; known once one was made.
        removals: the boxes being removed.
    """

    def __init__(self, capabilities: HostCapabilities) -> None:
        self.adjustable = False
        self.removals = Removals()
        self._capabilities = capabilities

    async def make(self, limits: JobLimits) -> BwrapBox:
        """Make a box whose shell waits for a job.

        Raises:
            RuntimeFailure: it cannot be made; nothing of it is left.
        """
        try:
            async with contextlib.AsyncExitStack() as made:
                return await self._make(made, limits)
        except OSError as error:
            raise RuntimeFailure(str(error)) from error

    def discard(self, box: BwrapBox) -> None:
        """End and remove a box in the background."""
        self.removals.begin(self._close(box))

    @staticmethod
    async def _close(box: BwrapBox) -> None:
        try:
            await box.closing.aclose()
        except OSError as error:
            security_event(
                "leftover_box", f"a box's cgroup was not removed: {error}", box=str(box.init)
            )

    async def _make(self, made: contextlib.AsyncExitStack, limits: JobLimits) -> BwrapBox:
        capabilities, user = self._capabilities, self._user(made)
        inputs = capabilities.inputs.make(user.uid)
        made.push_async_callback(asyncio.to_thread, inputs.remove)
        group = self._group(made, limits)
        held = made.enter_context(contextlib.ExitStack())  # until the process has ended
        process = _launch(capabilities, inputs, limits.disk_bytes, user, group)
        made.push_async_callback(process.aclose)
        init = await self._set_up(process)
        held.callback(capabilities.keeper.hold(init))
        if capabilities.quotas is not None and user.uid is None:
            capabilities.quotas.limit(descendants(init))
        files = made.enter_context(contextlib.closing(BoxFiles(init)))
        network = made.enter_context(contextlib.closing(NetworkWatch(init)))
        self.adjustable = files.adjustable
        before = group.usage() if group is not None else _seen(process.pid, init)
        closing = made.pop_all()
        return BwrapBox(
            *(process, init, files, network, inputs, group, capabilities.cpus),
            *(before, limits, closing),
        )

    @staticmethod
    def _user(made: contextlib.AsyncExitStack) -> Identity:
        if os.geteuid() != 0:
            return Identity()
        try:
            user = made.enter_context(contextlib.closing(BUBBLEWRAP_USERS.take()))
        except NoUserFree as error:
            raise RuntimeFailure(str(error)) from None
        return Identity(user.uid)

    def _group(self, made: contextlib.AsyncExitStack, limits: JobLimits) -> Cgroup | None:
        if self._capabilities.tree is None:
            return None
        group = self._capabilities.tree.create(f"box-{next(_serial)}", group_limits(limits))
        made.push_async_callback(asyncio.to_thread, group.remove)
        return group

    @staticmethod
    async def _set_up(process: BwrapProcess) -> int:
        try:
            async with asyncio.timeout(SETUP_SECONDS):
                init = await process.init_pid()
                await process.ready()
                return init
        except TimeoutError:
            raise TooSlow(f"bwrap had not set up the box after {SETUP_SECONDS:.0f} s") from None
        except RuntimeFailure as failure:
            await process.aclose()
            raise RuntimeFailure(f"{failure}: {process.last_message()}") from None


def _launch(
    capabilities: HostCapabilities,
    inputs: InputFolder,
    disk_bytes: int,
    user: Identity,
    group: Cgroup | None,
) -> BwrapProcess:
    """Start ``bwrap``; what it copies into the box is passed in memory files."""
    with contextlib.ExitStack() as opened:
        handed: list[int] = []

        def file(name: str, content: bytes) -> int:
            descriptor = sealed_file(name, content)
            opened.callback(os.close, descriptor)
            handed.append(descriptor)
            return descriptor

        identity = {
            path: file("etc", content) for path, content in command_line.IDENTITY_FILES.items()
        }
        profile = None if capabilities.filter is None else file("seccomp", capabilities.filter)

        def command(status: int) -> list[str]:
            inherited = command_line.Descriptors(identity, profile, status)
            options = command_line.box_arguments(
                capabilities.root, inherited, inputs.path, disk_bytes
            )
            mark = capabilities.keeper.mark
            bwrap = [capabilities.bwrap.path, *mark, *options, "--", *shell.waiting()]
            quotas = capabilities.quotas
            inside = user.command(bwrap if quotas is None else quotas.around(bwrap))
            return command_line.entering(group, inside)

        return BwrapProcess(command, handed)


def _seen(bwrap: int, init: int) -> GroupUsage:
    """What a waiting box has used, without a cgroup; its CPU time so far is system time."""
    inside = [init, *descendants(init)]
    memory = private_bytes([bwrap, *inside]) + _KERNEL_BYTES
    return GroupUsage(0.0, run_ms(inside), memory, oom_kills=0)
