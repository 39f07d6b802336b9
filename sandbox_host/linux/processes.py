"""Finds and identifies processes, even when PIDs are reused; how they ended; in-memory files."""

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

#: ``struct pidfd_info``, of which the mask and the wait status are read, and its ioctl(2) number.
_PIDFD_INFO = struct.Struct("=Q52xi")
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = 0xC000FF0B | _PIDFD_INFO.size << 16

_TAG = re.compile(r"(\d+)-(\d+)-(\d+)\Z")


def host_tag() -> str:
    """Name this process as ``<pid namespace>-<pid>-<start time in ticks>``."""
    pid = os.getpid()
    return f"{_pid_namespace()}-{pid}-{_start_time(pid)}"


def is_alive(tag: str) -> bool:
    """Whether the process that `host_tag` named may still be running.

    A process in another PID namespace cannot be seen from here, and counts as alive, as does one of
    which nothing can be found out now.
    """
    match = _TAG.match(tag)
    if match is None:
        return True
    namespace, pid, started = (int(part) for part in match.groups())
    try:
        return namespace != _pid_namespace() or _start_time(pid) == started
    except OSError:
        return True


def descendants(pid: int) -> Iterator[int]:
    """The processes below ``pid``; orphans in a box become children of its PID 1, so all count.

    The newest child comes first: one that lives only until it has handed on what it holds to a
    child of its own is always the newest.
    """
    return (child for child, _ in below(pid))


def below(pid: int) -> Iterator[tuple[int, str]]:
    """As `descendants`; with each, the folder of the thread whose last child it is, else ""."""
    pending = [pid]
    while pending:
        parent = pending.pop()
        for thread in _threads(parent):
            task = f"/proc/{parent}/task/{thread}"
            children: list[int] = []
            with contextlib.suppress(OSError), open(f"{task}/children", "rb") as file:
                children = [int(child) for child in file.read().split()]
            for child in reversed(children):
                yield child, task if child == children[-1] else ""
            pending += children


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def adopt_orphans() -> None:
    """Make this process the parent of orphaned descendants (PR_SET_CHILD_SUBREAPER, prctl(2)).

    ``bwrap`` ends before the box's PID 1 does. Once that is adopted, this host can read its CPU
    time, and it does not stay a zombie on a machine whose init does not reap.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) was refused")


def stop_ignoring_signals() -> None:
    """Ignore no signal that this process was started to ignore, for example by ``nohup``.

    Children inherit ignored signals, and so would programs in boxes; signals with a handler, even
    one that does nothing, are reset in them (execve(2)). `subprocess` already resets the two that
    Python ignores. Call it from the main thread.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)


def returncode_of(pidfd: int) -> int | None:
    """How a process ended, after it was reaped and whosever child it was.

    Uses PIDFD_GET_INFO (``linux/pidfd.h``), which reports this since Linux 6.15.

    Returns:
        Its exit code, or the negated number of the signal that ended it; None if the kernel does
        not tell, or does not know yet.
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
    """Whether `returncode_of` works on this kernel."""
    child = subprocess.Popen(["/bin/true"], env={})
    pidfd = os.pidfd_open(child.pid)
    try:
        child.wait()
        return returncode_of(pidfd) is not None
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def acting_as(user: int | None) -> Iterator[None]:
    """Make this thread access files and ``/proc`` as ``user``; None changes nothing.

    Files it creates belong to that user: in a box's file systems no other user of this machine can
    own anything, not even root. Uses setfsuid(2), which affects this thread alone and also takes
    away its privileges over files.
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
    """A descriptor of an immutable in-memory file with ``content``, positioned at its start."""
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


def stat_fields(process: str) -> list[str]:
    """The fields of ``stat`` from the third on (proc(5)), of a process's folder or a thread's.

    The second one is its name, which may be any bytes.

    Raises:
        OSError: it has ended, or cannot be read.
    """
    return Path(f"{process}/stat").read_bytes().rpartition(b")")[2].decode().split()


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_time(pid: int) -> int | None:
    """Field 22 of ``/proc/PID/stat``, clock ticks after boot; None if no such process runs.

    Raises:
        OSError: it cannot be read now, for example because too many files are open.
    """
    try:
        state, *rest = stat_fields(f"/proc/{pid}")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(rest[18])
