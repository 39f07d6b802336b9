"""Allows the engine to make cgroups inside a container."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from sandbox_host.linux.mountinfo import read_mounts

_ROOT = Path("/sys/fs/cgroup")


def make_writable() -> None:
    """Remount this container's cgroups writable; in a privileged container they are already.

    Others stay out of reach: a container sees the hierarchy from its own group downwards.

    Raises:
        OSError: the kernel refuses.
    """
    for mount in read_mounts():
        if mount.kind in ("cgroup", "cgroup2") and "ro" in mount.options:
            command = ["mount", "-o", "remount,bind,rw", str(mount.point)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
            if done.returncode != 0:
                raise OSError(done.stderr.strip())


def delegate(root: Path = _ROOT) -> None:
    """Move this container's processes out of its top group, and enable all controllers below it.

    In cgroup v2, only a group without processes can enable controllers for its children: Linux
    ``Documentation/admin-guide/cgroup-v2.rst``, "No Internal Process Constraint".

    Raises:
        OSError: the file system is read-only.
    """
    controllers = root / "cgroup.controllers"
    if not controllers.exists():
        return
    inside = root / "init"
    inside.mkdir(exist_ok=True)
    for process in (root / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            (inside / "cgroup.procs").write_text(process)
    wanted = " ".join(f"+{name}" for name in controllers.read_text().split())
    (root / "cgroup.subtree_control").write_text(wanted)
