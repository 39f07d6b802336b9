"""The interface of a box's cgroup, the same on cgroup v1 and v2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol


class CgroupsUnavailable(Exception):
    """Cgroups cannot be made here; the message says why."""


@dataclass(frozen=True)
class GroupLimits:
    """Limits of one box: bytes of memory and swap, processes and threads, CPUs."""

    memory_bytes: int
    processes: int
    cpus: float


@dataclass(frozen=True)
class GroupUsage:
    """What a box used, as counted by the kernel; None for what the kernel does not report.

    Attributes:
        oom_kills: processes killed because of the memory limit.
        process_refusals: processes and threads refused because of the limit on processes.
        peak_processes: the most processes and threads alive at once (Linux 6.1 and later).
    """

    cpu_user_ms: float | None
    cpu_system_ms: float | None
    peak_memory_bytes: int | None
    oom_kills: int
    process_refusals: int = 0
    peak_processes: int | None = None

    def since(self, before: GroupUsage) -> GroupUsage:
        """The same, but with only the CPU time used after ``before`` was read."""
        return replace(
            self,
            cpu_user_ms=_passed(before.cpu_user_ms, self.cpu_user_ms),
            cpu_system_ms=_passed(before.cpu_system_ms, self.cpu_system_ms),
        )


def _passed(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


class Cgroup(Protocol):
    """The cgroup of one box."""

    def attach(self, pid: int) -> None:
        """Move a process into the group; its later children will start in it."""
        ...

    def entrances(self) -> list[Path]:
        """Files through which a process enters the group by writing 0 to each."""
        ...

    def limit(self, limits: GroupLimits) -> None:
        """Change the limits, also for the processes already in the group.

        Raises:
            OSError: the kernel refuses, for example a limit below the memory in use.
        """
        ...

    def limit_sockets(self, size_bytes: int) -> None:
        """Limit the buffers of IP sockets, on kernels that do not count them as memory.

        This applies to this group alone, and to sockets made from now on.

        Raises:
            OSError: the kernel refuses.
        """
        ...

    def below(self, name: str) -> Cgroup:
        """The group with this name that a container engine makes in this one."""
        ...

    def pids(self) -> list[int]:
        """The PIDs in the group itself; empty once it is deleted."""
        ...

    def usage(self) -> GroupUsage:
        """Read the counters."""
        ...

    def remove(self) -> None:
        """Kill the processes that are left in the group, then delete it."""
        ...


class CgroupTree(Protocol):
    """Makes and removes boxes' cgroups."""

    version: str

    def create(self, name: str, limits: GroupLimits | None) -> Cgroup:
        """Make a group with these limits; without limits, it only counts usage."""
        ...

    def engine_path(self, name: str) -> str:
        """The group's path for a container engine; only for a tree opened at the root."""
        ...

    def reap(self) -> int:
        """Remove the groups of dead hosts; the number of boxes in them."""
        ...

    def close(self) -> None:
        """Remove this host's own group, which must be empty."""
        ...
