"""cgroup v1: one hierarchy per controller; ``Documentation/admin-guide/cgroup-v1``."""

from __future__ import annotations

from pathlib import Path

from sandbox_host.linux.cgroups.files import (
    CPU_PERIOD,
    close_group,
    read_field,
    read_number,
    read_pids,
    read_scaled,
    reap_folders,
    remove_group,
    write,
)
from sandbox_host.linux.cgroups.types import Cgroup, GroupLimits, GroupUsage


class V1Tree:
    """cgroup v1: one hierarchy per controller."""

    version = "cgroup v1"

    def __init__(
        self, folders: dict[str, Path], tag: str, engine_mounts: tuple[Path, ...] = ()
    ) -> None:
        """Make this host's own groups.

        Args:
            folders: controller to the folder in which the group is made.
            tag: the groups' name.
            engine_mounts: further hierarchies, in which a container engine makes groups of the
                same names and never removes them.
        """
        self._tag = tag
        self._parents = folders
        self._engine_mounts = engine_mounts
        self._folders = {name: folder / tag for name, folder in folders.items()}
        for folder in self._unique():
            folder.mkdir(exist_ok=True)

    def create(self, name: str, limits: GroupLimits | None) -> Cgroup:
        """Make a group in every hierarchy."""
        strays = [mount / self._tag / name for mount in self._engine_mounts]
        group = V1Group({key: folder / name for key, folder in self._folders.items()}, strays)
        group.make(limits)
        return group

    def engine_path(self, name: str) -> str:
        """See `CgroupTree.engine_path`."""
        return f"/{self._tag}/{name}"

    def reap(self) -> int:
        """See `CgroupTree.reap`."""
        for mount in self._engine_mounts:
            reap_folders(mount)
        return max(reap_folders(parent) for parent in dict.fromkeys(self._parents.values()))

    def close(self) -> None:
        """See `CgroupTree.close`."""
        for folder in (*self._unique(), *(mount / self._tag for mount in self._engine_mounts)):
            close_group(folder)

    def _unique(self) -> list[Path]:
        return list(dict.fromkeys(self._folders.values()))


class V1Group:
    """One box's groups, one per controller."""

    def __init__(self, folders: dict[str, Path], strays: list[Path]) -> None:
        self._folders = folders
        self._strays = strays

    def make(self, limits: GroupLimits | None) -> None:
        """Create the groups and write the limits."""
        for folder in dict.fromkeys(self._folders.values()):
            folder.mkdir()
        if limits is not None:
            self.limit(limits)

    def limit(self, limits: GroupLimits) -> None:
        """See `Cgroup.limit`.

        The limit on memory may at no time be above the limit on memory and swap together.
        """
        memory = self._folders["memory"] / "memory.limit_in_bytes"
        swap = memory.with_name("memory.memsw.limit_in_bytes")
        lower_first = [memory, swap] if swap.exists() else [memory]
        if (read_number(memory) or 0) < limits.memory_bytes:
            lower_first.reverse()
        for file in lower_first:
            write(file, limits.memory_bytes)
        self.limit_sockets(limits.memory_bytes)
        write(self._folders["pids"] / "pids.max", limits.processes)
        if "cpu" in self._folders:
            write(self._folders["cpu"] / "cpu.cfs_period_us", CPU_PERIOD)
            write(self._folders["cpu"] / "cpu.cfs_quota_us", int(limits.cpus * CPU_PERIOD))

    def limit_sockets(self, size_bytes: int) -> None:
        """See `Cgroup.limit_sockets`."""
        file = self._folders["memory"] / "memory.kmem.tcp.limit_in_bytes"
        if file.exists():
            write(file, size_bytes)

    def attach(self, pid: int) -> None:
        """See `Cgroup.attach`."""
        for entrance in self.entrances():
            write(entrance, pid)

    def entrances(self) -> list[Path]:
        """See `Cgroup.entrances`."""
        return [folder / "cgroup.procs" for folder in dict.fromkeys(self._folders.values())]

    def below(self, name: str) -> Cgroup:
        """See `Cgroup.below`."""
        return V1Group({key: folder / name for key, folder in self._folders.items()}, [])

    def pids(self) -> list[int]:
        """See `Cgroup.pids`."""
        return read_pids(self._folders["pids"])

    def usage(self) -> GroupUsage:
        """See `Cgroup.usage`; v1 counts CPU time in nanoseconds."""
        memory, pids = self._folders["memory"], self._folders["pids"]
        cpu = self._folders.get("cpuacct")
        return GroupUsage(
            cpu_user_ms=read_scaled(cpu and cpu / "cpuacct.usage_user", 1e6),
            cpu_system_ms=read_scaled(cpu and cpu / "cpuacct.usage_sys", 1e6),
            peak_memory_bytes=read_number(memory / "memory.max_usage_in_bytes"),
            oom_kills=read_field(memory / "memory.oom_control", "oom_kill") or 0,
            process_refusals=read_field(pids / "pids.events", "max") or 0,
            peak_processes=read_number(pids / "pids.peak"),
        )

    def remove(self) -> None:
        """See `Cgroup.remove`."""
        for folder in dict.fromkeys((*self._folders.values(), *self._strays)):
            remove_group(folder)
