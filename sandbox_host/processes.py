"""Naming processes so that a pid used again is not mistaken for the old one, and memory files."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

_TAG = re.compile(r"(\d+)-(\d+)-(\d+)\Z")


def host_tag() -> str:
    """Name this process as ``<pid namespace>-<pid>-<start time in ticks>``."""
    pid = os.getpid()
    return f"{_pid_namespace()}-{pid}-{_start_time(pid)}"


def is_alive(tag: str) -> bool:
    """Whether the process that `host_tag` named may still run.

    One in another pid namespace cannot be seen from here and counts as alive.
    """
    match = _TAG.match(tag)
    if match is None:
        return True
    namespace, pid, started = (int(part) for part in match.groups())
    return namespace != _pid_namespace() or _start_time(pid) == started


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans (PR_SET_CHILD_SUBREAPER, prctl(2)).

    ``bwrap`` ends before the box's PID 1 does; adopted, that one's CPU time can be read, and it
    never stays a zombie where the machine's own init does not reap.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) was refused")


def sealed_file(name: str, content: bytes) -> int:
    """A descriptor of an unchangeable in-memory file holding ``content``, at its beginning."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_time(pid: int) -> int | None:
    """Field 22 of ``/proc/PID/stat``, clock ticks after boot; None when there is no such one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])
