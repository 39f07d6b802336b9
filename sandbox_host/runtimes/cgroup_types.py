"""What a box's cgroup offers, whichever version the kernel runs."""

from __future__ import annotations

from dataclasses import dataclass
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
    """What a box used, as the kernel counted it; None where the kernel does not say."""

    cpu_user_ms: float | None
    cpu_system_ms: float | None
    peak_memory_bytes: int | None
    oom_kills: int


class Cgroup(Protocol):
    """The cgroup of one box."""

    def attach(self, pid: int) -> None:
        """Move a process in; its later children follow."""
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
