"""One cgroup per box, on cgroup v1 or v2, where this process may make them.

Layout: ``<own cgroup>/qlp-sandbox-<pid namespace>-<pid>-<start time>-<serial>/<run>``. The middle
part names the host process, so that a later host can tell what a dead one has left behind.
Sources: Linux ``Documentation/admin-guide/cgroup-v1/*`` and ``cgroup-v2.rst``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandbox_host.processes import host_tag, is_alive

#: Microseconds; the kernel's default CFS period.
_CPU_PERIOD = 100_000

_PREFIX = "qlp-sandbox-"

#: Numbers this process's trees, so that closing one leaves the others alone.
_serial = itertools.count()


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


def open_tree(*, at_root: bool = False) -> CgroupTree:
    """The tree to use on this machine, proven by making a group in it.

    Args:
        at_root: make it at the top of what is mounted here, where a container engine can be told
            to put containers, instead of below this process's own cgroup.

    Raises:
        CgroupsUnavailable: says what is missing.
    """
    mounts = list(_cgroup_mounts(Path("/proc/self/mountinfo").read_text()))
    own = {} if at_root else _own_paths(Path("/proc/self/cgroup").read_text())
    tag = f"{_PREFIX}{host_tag()}-{next(_serial)}"
    try:
        if any(mount.holds("memory") for mount in mounts):
            return V1Tree(_v1_folders(mounts, own), tag)
        unified = next((mount for mount in mounts if mount.version == 2), None)
        if unified is None:
            raise CgroupsUnavailable("no cgroup file system is mounted")
        return V2Tree(unified.locate(own.get("", "/")), tag)
    except OSError as error:
        raise CgroupsUnavailable(f"{error.strerror or error}: {error.filename}") from None


@dataclass(frozen=True)
class _Mount:
    version: int
    root: str
    point: Path
    controllers: frozenset[str]

    def holds(self, controller: str) -> bool:
        return self.version == 1 and controller in self.controllers

    def locate(self, path: str) -> Path:
        """Where the cgroup ``path`` is visible under this mount, else the mount itself."""
        relative = os.path.relpath(path, self.root)
        folder = self.point if relative.startswith("..") else self.point / relative
        return folder if folder.is_dir() else self.point


def _cgroup_mounts(mountinfo: str) -> Iterator[_Mount]:
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(), right.split(maxsplit=2)
        point = Path(fields[4].replace("\\040", " "))
        if kind == "cgroup":
            yield _Mount(1, fields[3], point, frozenset(options.split(",")))
        elif kind == "cgroup2":
            yield _Mount(2, fields[3], point, frozenset())


def _own_paths(text: str) -> dict[str, str]:
    """Controller to this process's cgroup; the empty name is the unified hierarchy."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _v1_folders(mounts: list[_Mount], own: dict[str, str]) -> dict[str, Path]:
    folders = {}
    for controller in ("memory", "pids", "cpuacct", "cpu"):
        mount = next((mount for mount in mounts if mount.holds(controller)), None)
        if mount is not None:
            folders[controller] = mount.locate(own.get(controller, "/"))
    if "pids" not in folders:
        raise CgroupsUnavailable("the pids controller is not mounted")
    return folders


class V1Tree:
    """cgroup v1: one hierarchy per controller."""

    version = "cgroup v1"

    def __init__(self, folders: dict[str, Path], tag: str) -> None:
        self._tag = tag
        self._parents = folders
        self._folders = {name: folder / tag for name, folder in folders.items()}
        for folder in self._unique():
            folder.mkdir(exist_ok=True)

    def create(self, name: str, limits: GroupLimits | None) -> Cgroup:
        """A group in every hierarchy."""
        group = V1Group({key: folder / name for key, folder in self._folders.items()})
        group.make(limits)
        return group

    def engine_path(self, name: str) -> str:
        """See `CgroupTree.engine_path`."""
        return f"/{self._tag}/{name}"

    def reap(self) -> int:
        """See `CgroupTree.reap`."""
        return sum(_reap(parent) for parent in set(self._parents.values()))

    def close(self) -> None:
        """See `CgroupTree.close`."""
        for folder in self._unique():
            _remove(folder)

    def _unique(self) -> list[Path]:
        return list(dict.fromkeys(self._folders.values()))


class V1Group:
    """One box's groups, one per controller."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    def make(self, limits: GroupLimits | None) -> None:
        """Create the groups and write the limits."""
        for folder in dict.fromkeys(self._folders.values()):
            folder.mkdir()
        if limits is None:
            return
        memory = self._folders["memory"]
        _write(memory / "memory.limit_in_bytes", limits.memory_bytes)
        swap = memory / "memory.memsw.limit_in_bytes"
        if swap.exists():
            _write(swap, limits.memory_bytes)
        _write(self._folders["pids"] / "pids.max", limits.processes)
        if "cpu" in self._folders:
            _write(self._folders["cpu"] / "cpu.cfs_period_us", _CPU_PERIOD)
            _write(self._folders["cpu"] / "cpu.cfs_quota_us", int(limits.cpus * _CPU_PERIOD))

    def attach(self, pid: int) -> None:
        """See `Cgroup.attach`."""
        for folder in dict.fromkeys(self._folders.values()):
            _write(folder / "cgroup.procs", pid)

    def usage(self) -> GroupUsage:
        """See `Cgroup.usage`; CPU counters of v1 are in nanoseconds."""
        memory, cpu = self._folders["memory"], self._folders.get("cpuacct")
        return GroupUsage(
            cpu_user_ms=_scaled(cpu and cpu / "cpuacct.usage_user", 1e6),
            cpu_system_ms=_scaled(cpu and cpu / "cpuacct.usage_sys", 1e6),
            peak_memory_bytes=_number(memory / "memory.max_usage_in_bytes"),
            oom_kills=_field(memory / "memory.oom_control", "oom_kill") or 0,
        )

    def remove(self) -> None:
        """See `Cgroup.remove`."""
        for folder in dict.fromkeys(self._folders.values()):
            _remove(folder)


class V2Tree:
    """cgroup v2: one hierarchy; controllers must be handed down to the boxes' parent."""

    version = "cgroup v2"

    def __init__(self, parent: Path, tag: str) -> None:
        offered = (parent / "cgroup.controllers").read_text().split()
        missing = {"memory", "pids"} - set(offered)
        if missing:
            raise CgroupsUnavailable(f"{parent} is not given the controllers {sorted(missing)}")
        self._controllers = " ".join(f"+{name}" for name in offered if name in _V2_CONTROLLERS)
        self._tag = tag
        self._parent = parent
        self._folder = parent / tag
        self._folder.mkdir(exist_ok=True)
        self._hand_down()

    def _hand_down(self) -> None:
        """Enable the controllers for the boxes.

        A group with processes of its own may not hand controllers down ("no internal processes"),
        so where this host is alone in its group it moves into a leaf beside the boxes.
        """
        control = self._parent / "cgroup.subtree_control"
        try:
            _write(control, self._controllers)
        except OSError:
            leaf = self._folder.with_name(self._folder.name + ".host")
            leaf.mkdir(exist_ok=True)
            _write(leaf / "cgroup.procs", os.getpid())
            _write(control, self._controllers)
        _write(self._folder / "cgroup.subtree_control", self._controllers)

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
        return _reap(self._parent)

    def close(self) -> None:
        """See `CgroupTree.close`."""
        _remove(self._folder)


_V2_CONTROLLERS = ("memory", "pids", "cpu")


class V2Group:
    """One box's group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, limits: GroupLimits | None) -> None:
        """Create the group and write the limits."""
        self._folder.mkdir()
        if limits is None:
            return
        _write(self._folder / "memory.max", limits.memory_bytes)
        swap = self._folder / "memory.swap.max"
        if swap.exists():
            _write(swap, 0)
        _write(self._folder / "pids.max", limits.processes)
        if (self._folder / "cpu.max").exists():
            _write(self._folder / "cpu.max", f"{int(limits.cpus * _CPU_PERIOD)} {_CPU_PERIOD}")

    def attach(self, pid: int) -> None:
        """See `Cgroup.attach`."""
        _write(self._folder / "cgroup.procs", pid)

    def usage(self) -> GroupUsage:
        """See `Cgroup.usage`; CPU counters of v2 are in microseconds, the peak needs Linux 5.19."""
        stat = self._folder / "cpu.stat"
        user, system = _field(stat, "user_usec"), _field(stat, "system_usec")
        return GroupUsage(
            cpu_user_ms=None if user is None else user / 1e3,
            cpu_system_ms=None if system is None else system / 1e3,
            peak_memory_bytes=_number(self._folder / "memory.peak"),
            oom_kills=_field(self._folder / "memory.events", "oom_kill") or 0,
        )

    def remove(self) -> None:
        """See `Cgroup.remove`."""
        _remove(self._folder)


def _write(path: Path, value: int | str) -> None:
    path.write_text(f"{value}")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _scaled(path: Path | None, divisor: float) -> float | None:
    number = None if path is None else _number(path)
    return None if number is None else number / divisor


def _field(path: Path, name: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return None


def _reap(parent: Path) -> int:
    boxes = 0
    for folder in parent.glob(f"{_PREFIX}*"):
        tag = folder.name.removeprefix(_PREFIX).removesuffix(".host")
        if is_alive(tag.rpartition("-")[0]):
            continue
        for box in folder.iterdir():
            if box.is_dir():
                boxes += 1
                _remove(box)
        _remove(folder)
    return boxes


def _remove(folder: Path, seconds: float = 2.0) -> None:
    """Kill what is in ``folder`` and delete it; a killed process takes a moment to leave.

    Raises:
        OSError: it could not be deleted within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            _kill_members(folder)
            time.sleep(0.002)
        else:
            return


def _kill_members(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
