"""Holding a box's memory limit where no cgroup can: measure all its processes, often.

Resource limits are per process, so the total is kept by looking: private memory of every process
of the box, plus what lies in its tmpfs, plus the kernel's memory for its files. This is what a
memory cgroup would charge, to within a few milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Seconds between looks, and the share of one CPU that looking may take.
_INTERVAL = 0.005
_SHARE = 0.2

#: Kernel memory behind one tmpfs inode and its name, bytes.
_INODE_BYTES = 1024

_TICKS_PER_MS = os.sysconf("SC_CLK_TCK") / 1e3

_TMPFS = ("box", "dev/shm")


class MemoryWatchdog:
    """Watches the processes below a box's PID 1."""

    def __init__(self, init_pid: int, limit: int, on_excess: Callable[[], None]) -> None:
        self._init = init_pid
        self._limit = limit
        self._on_excess = on_excess
        self._mounts: list[int] = []
        self.peak = 0
        self.cpu_user_ms = 0.0
        self.cpu_system_ms = 0.0

    def sample_cpu(self) -> None:
        """Note the CPU time so far; call it before a kill, which loses it."""
        self.cpu_user_ms, self.cpu_system_ms = cpu_times([self._init, *descendants(self._init)])

    async def watch(self) -> None:
        """Look until cancelled, or until the limit was passed and ``on_excess`` called."""
        try:
            while True:
                began = time.perf_counter()
                used = self._used()
                self.peak = max(self.peak, used)
                if used > self._limit:
                    self._on_excess()
                    return
                await asyncio.sleep(max(_INTERVAL, (time.perf_counter() - began) / _SHARE))
        finally:
            for descriptor in self._mounts:
                os.close(descriptor)

    def _used(self) -> int:
        pids = list(descendants(self._init))
        files = self._file_bytes(pids)
        private = sum(_private_resident(pid) for pid in pids)
        if private + files > self._limit:
            # Forked processes share pages that were counted for each; ask for exact shares.
            private = sum(_proportional(pid) for pid in pids)
        return private + files

    def _file_bytes(self, pids: list[int]) -> int:
        if not self._mounts:
            self._open_mounts(pids)
        total = 0
        for descriptor in self._mounts:
            stat = os.fstatvfs(descriptor)
            total += (stat.f_blocks - stat.f_bfree) * stat.f_frsize
            total += (stat.f_files - stat.f_ffree) * _INODE_BYTES
        return total

    def _open_mounts(self, pids: list[int]) -> None:
        """Hold the box's tmpfs mounts through the first process that has them."""
        for pid in pids:
            opened: list[int] = []
            try:
                for name in _TMPFS:
                    opened.append(os.open(f"/proc/{pid}/root/{name}", os.O_PATH | os.O_DIRECTORY))
            except OSError:
                for descriptor in opened:
                    os.close(descriptor)
                continue
            self._mounts = opened
            return


def descendants(pid: int) -> Iterator[int]:
    """The processes below ``pid``; orphans of a box are its PID 1's children, so none is missed."""
    pending = [pid]
    while pending:
        parent = pending.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                text = Path(f"/proc/{parent}/task/{thread}/children").read_text()
                children = [int(child) for child in text.split()]
                yield from children
                pending += children


def _private_resident(pid: int) -> int:
    """Resident memory that is not file or tmpfs pages, proc_pid_statm(5)."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE


def _proportional(pid: int) -> int:
    """Private memory with shared pages divided among their users, ``smaps_rollup``."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return _private_resident(pid)
    for line in rollup.splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    return _private_resident(pid)


def cpu_times(pids: list[int]) -> tuple[float, float]:
    """User and system milliseconds of ``pids`` and the children they waited for, proc(5)."""
    user = system = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return user / _TICKS_PER_MS, system / _TICKS_PER_MS
