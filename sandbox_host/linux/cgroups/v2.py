"""cgroup v2: one hierarchy; ``Documentation/admin-guide/cgroup-v2.rst``."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox_host.linux.cgroups.files import (
    CPU_PERIOD,
    close_group,
    read_field,
    read_number,
    read_pids,
    reap_folders,
    remove_group,
    write,
)
from sandbox_host.linux.cgroups.types import (
    Cgroup,
    CgroupsUnavailable,
    GroupLimits,
    GroupUsage,
)

_V2_CONTROLLERS = ("memory", "pids", "cpu")


class V2Tree:
    """cgroup v2: one hierarchy; controllers must be enabled for the boxes' parent group."""

    version = "cgroup v2"

    def __init__(self, parent: Path, tag: str) -> None:
        offered = (parent / "cgroup.controllers").read_text().split()
        missing = {"memory", "pids"} - set(offered)
        if missing:
            raise CgroupsUnavailable(f"{parent} lacks the controllers {', '.join(sorted(missing))}")
        self._controllers = " ".join(f"+{name}" for name in offered if name in _V2_CONTROLLERS)
        self._tag = tag
        self._parent = parent
        self._folder = parent / tag
        self._folder.mkdir(exist_ok=True)
        self._enable_controllers()

    def _enable_controllers(self) -> None:
        """Enable the controllers for the boxes.

        A group that contains processes cannot enable controllers for its children ("no internal
        process constraint"). If this host is alone in its group, it moves into a leaf group.
        """
        control = self._parent / "cgroup.subtree_control"
        try:
            write(control, self._controllers)
        except OSError:
            leaf = self._folder.with_name(self._folder.name + ".host")
            leaf.mkdir(exist_ok=True)
            write(leaf / "cgroup.procs", os.getpid())
            write(control, self._controllers)
        write(self._folder / "cgroup.subtree_control", self._controllers)

    def create(self, name: str, limits: GroupLimits | None) -> Cgroup:
        """See `CgroupTree.create`."""
        group = V2Group(self._folder / name)
        group.make(limits)
        return group

    def engine_path(self, name: str) -> str:
        """See `CgroupTree.engine_path`."""
        return f"/{self._tag}/{name}"

    def reap(self) -> int:
        """See `CgroupTree.reap`."""
        return reap_folders(self._parent)

    def close(self) -> None:
        """See `CgroupTree.close`."""
        close_group(self._folder)


class V2Group:
    """One box's group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, limits: GroupLimits | None) -> None:
        """Create the group and write the limits."""
        self._folder.mkdir()
        if limits is not None:
            self.limit(limits)

    def limit(self, limits: GroupLimits) -> None:
        """See `Cgroup.limit`."""
        write(self._folder / "memory.max", limits.memory_bytes)
        swap = self._folder / "memory.swap.max"
        if swap.exists():
            write(swap, 0)
        write(self._folder / "pids.max", limits.processes)
        if (self._folder / "cpu.max").exists():
            write(self._folder / "cpu.max", f"{int(limits.cpus * CPU_PERIOD)} {CPU_PERIOD}")

    def limit_sockets(self, size_bytes: int) -> None:
        """See `Cgroup.limit_sockets`; v2 counts socket buffers as memory."""

    def attach(self, pid: int) -> None:
        """See `Cgroup.attach`."""
        write(self._folder / "cgroup.procs", pid)

    def entrances(self) -> list[Path]:
        """See `Cgroup.entrances`."""
        return [self._folder / "cgroup.procs"]

    def below(self, name: str) -> Cgroup:
        """See `Cgroup.below`."""
        return V2Group(self._folder / name)

    def pids(self) -> list[int]:
        """See `Cgroup.pids`."""
        return read_pids(self._folder)

    def usage(self) -> GroupUsage:
        """See `Cgroup.usage`; v2 counts CPU time in microseconds.

        The peak of memory needs Linux 5.19, that of processes Linux 6.1.
        """
        stat = self._folder / "cpu.stat"
        user, system = read_field(stat, "user_usec"), read_field(stat, "system_usec")
        return GroupUsage(
            cpu_user_ms=None if user is None else user / 1e3,
            cpu_system_ms=None if system is None else system / 1e3,
            peak_memory_bytes=read_number(self._folder / "memory.peak"),
            oom_kills=read_field(self._folder / "memory.events", "oom_kill") or 0,
            process_refusals=read_field(self._folder / "pids.events", "max") or 0,
            peak_processes=read_number(self._folder / "pids.peak"),
        )

    def remove(self) -> None:
        """See `Cgroup.remove`."""
        remove_group(self._folder)
