"""Naming processes so that a pid used again is not mistaken for the old one, and memory files."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import struct
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

#: ``struct pidfd_info``, of which its mask and the wait status are read, and its ioctl(2).
_PIDFD_INFO = struct.Struct("=Q52xi")
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = 0xC000FF0B | _PIDFD_INFO.size << 16

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


def heed_signals() -> None:
    """Have no signal ignored that this process was started to ignore, as by ``nohup``.

    What is ignored stays so in all that is started from here, programs in boxes too; what has a
    handler, even one that does nothing, does not (execve(2)). Python's own two are set back by
    `subprocess` already. For the main thread.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)


def returncode_of(pidfd: int) -> int | None:
    """How a process ended that is nobody's zombie any more, whosever child it was.

    By PIDFD_GET_INFO (``linux/pidfd.h``), from Linux 6.15 on.

    Returns:
        Its exit code, or the negated number of the signal that ended it; None where the kernel
        does not tell, or not yet.
    """
    info = bytearray(_PIDFD_INFO.size)
    _PIDFD_INFO.pack_into(info, 0, _PIDFD_INFO_EXIT, 0)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    known, status = _PIDFD_INFO.unpack(info)
    return os.waitstatus_to_exitcode(status) if known & _PIDFD_INFO_EXIT else None


@cache
def tells_returncodes() -> bool:
    """Whether `returncode_of` knows anything on this kernel."""
    child = subprocess.Popen(["/bin/true"], env={})
    pidfd = os.pidfd_open(child.pid)
    try:
        child.wait()
        return returncode_of(pidfd) is not None
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def acting_as(user: int | None) -> Iterator[None]:
    """Have this thread treat files, and ``/proc``, as ``user`` would; None changes nothing.

    What it makes belongs to that user: in a box's file systems no other user of this machine can
    own anything, root neither. By setfsuid(2), which takes the thread's privileges over files as
    well, and is the thread's alone.
    """
    if user is None:
        yield
        return
    libc = ctypes.CDLL(None)
    try:
        libc.setfsgid(user)
        libc.setfsuid(user)
        yield
    finally:
        libc.setfsuid(os.geteuid())
        libc.setfsgid(os.getegid())


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
