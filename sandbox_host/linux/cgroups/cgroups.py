"""Finds where this process can make a cgroup for each box, on cgroup v1 or v2.

Layout: ``<own cgroup>/qlp-sandbox-<pid namespace>-<pid>-<start time>-<serial>/<run>``. The middle
part names the host process, so that a later host can recognise what a dead one has left.
Sources: Linux ``Documentation/admin-guide/cgroup-v1/*`` and ``cgroup-v2.rst``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox_host.linux.cgroups.files import PREFIX
from sandbox_host.linux.cgroups.types import CgroupsUnavailable, CgroupTree
from sandbox_host.linux.cgroups.v1 import V1Tree
from sandbox_host.linux.cgroups.v2 import V2Tree
from sandbox_host.linux.mountinfo import read_mounts
from sandbox_host.linux.processes import host_tag

#: Numbers this process's trees, so that closing one leaves the others alone.
_serial = itertools.count()


def open_tree(*, at_root: bool = False) -> CgroupTree:
    """Open the tree to use on this machine, tested by making a group in it.

    Args:
        at_root: make it at the top of the mounted hierarchy, where a container engine can be told
            to put containers, instead of below this process's own cgroup.

    Raises:
        CgroupsUnavailable: says what is missing.
    """
    mounts = list(_cgroup_mounts())
    own = {} if at_root else _own_paths(Path("/proc/self/cgroup").read_text())
    tag = f"{PREFIX}{host_tag()}-{next(_serial)}"
    try:
        if any(mount.holds("memory") for mount in mounts):
            folders = _v1_folders(mounts, own)
            others = [mount.point for mount in mounts if mount.point not in folders.values()]
            return V1Tree(folders, tag, tuple(others) if at_root else ())
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
        """The folder of the cgroup ``path`` under this mount; else the mount point itself."""
        relative = os.path.relpath(path, self.root)
        folder = self.point if relative.startswith("..") else self.point / relative
        return folder if folder.is_dir() else self.point


def _cgroup_mounts() -> Iterator[_Mount]:
    for mount in read_mounts():
        if mount.kind == "cgroup":
            yield _Mount(1, mount.root, mount.point, frozenset(mount.super_options))
        elif mount.kind == "cgroup2":
            yield _Mount(2, mount.root, mount.point, frozenset())


def _own_paths(text: str) -> dict[str, str]:
    """Controller to this process's cgroup; the empty name stands for the unified hierarchy."""
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
