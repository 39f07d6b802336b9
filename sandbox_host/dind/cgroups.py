"""Lets the engine make cgroups in a container."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def make_writable() -> None:
    """Mount this container's cgroups writable, which only a privileged one has them from the start.

    They are no others than its own: a container sees the hierarchy from its own group downwards.

    Raises:
        OSError: the kernel refuses.
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point, options = left.split()[4:6]
        if right.startswith("cgroup") and "ro" in options.split(","):
            command = ["mount", "-o", "remount,bind,rw", point]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
            if done.returncode != 0:
                raise OSError(done.stderr.strip())


def delegate(root: Path = _ROOT) -> None:
    """Move this container's processes out of its topmost group, and hand all controllers down.

    On version 2, only a group without processes can do that: Linux
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
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            (inside / "cgroup.procs").write_text(process)
    wanted = " ".join(f"+{name}" for name in controllers.read_text().split())
    (root / "cgroup.subtree_control").write_text(wanted)
