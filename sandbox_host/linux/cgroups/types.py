"""What a box's cgroup offers, whichever version the kernel runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol


class CgroupsUnavailable(Exception):
    """No cgroup can be made here; the message says why."""


@dataclass(frozen=True)
class GroupLimits:
    """Limits of one box: bytes with swap included, processes and threads, CPUs."""

    memory_bytes: int
    processes: int
    cpus: float


@dataclass(frozen=True)
class GroupUsage:
    """What a box used, as the kernel counted it; None where the kernel does not say.

    Attributes:
        oom_kills: processes that the memory limit killed.
        process_refusals: processes and threads that the limit on them refused.
        peak_processes: most processes and threads alive at once (Linux 6.1 and later).
    """

    cpu_user_ms: float | None
    cpu_system_ms: float | None
    peak_memory_bytes: int | None
    oom_kills: int
    process_refusals: int = 0
    peak_processes: int | None = None

    def since(self, before: GroupUsage) -> GroupUsage:
        """The same with only the CPU time that was used after ``before``."""
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
        """Move a process in; its later children follow."""
        ...

    def entrances(self) -> list[Path]:
        """Files through which a process enters by writing 0; by itself it does so at once."""
        ...

    def limit(self, limits: GroupLimits) -> None:
        """Change the limits, which hold for all that is in the group already.

        Raises:
            OSError: the kernel refuses, for example less memory than is in use.
        """
        ...

    def limit_sockets(self, size_bytes: int) -> None:
        """Limit the buffers of IP sockets, where the kernel does not count them as memory.

        Of this group alone, and of sockets that are made from now on.

        Raises:
            OSError: the kernel refuses.
        """
        ...

    def below(self, name: str) -> Cgroup:
        """The group that a container engine makes in this one."""
        ...

    def pids(self) -> list[int]:
        """The processes in the group itself; empty once it is gone."""
        ...

    def usage(self) -> GroupUsage:
        """Read the counters."""
        ...

    def remove(self) -> None:
        """Kill what is left inside, then delete the group."""
        ...


class CgroupTree(Protocol):
    """Where boxes' cgroups are made."""

    version: str

    def create(self, name: str, limits: GroupLimits | None) -> Cgroup:
        """A new group with its limits set; without limits it only counts."""
        ...

    def engine_path(self, name: str) -> str:
        """The group's path as a container engine names it; for a tree opened at the root."""
        ...

    def reap(self) -> int:
        """Remove the groups of hosts that died; how many boxes there were."""
        ...

    def close(self) -> None:
        """Remove this host's own (empty) group."""
        ...
