"""Observes a box's processes: which programs run, how many, and which system calls are refused.

Programs are sampled, so one that runs for less than the interval may be missed. Refused system
calls are counted from the kernel's audit records (audit(7), type 1326). The kernel writes them for
filters loaded with SECCOMP_FILTER_FLAG_LOG, and a root host reads them from a netlink socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sandbox_host.linux.seccomp import name_of

#: Seconds before the first sample and between samples; the share of one CPU that sampling may take.
_FIRST = 0.005
_INTERVAL = 0.025
_SHARE = 0.05

#: Program names and system calls kept per run; `domain.contracts.job.Behaviour` accepts no more.
_MAX_NAMES = 32
_MAX_CALLS = 64

#: Not the loop's own threads, which others need: some may wait for as long as a program runs.
_LOOKING = ThreadPoolExecutor(max_workers=32, thread_name_prefix="look")

_NETLINK_AUDIT = 9  # linux/netlink.h
_READLOG_GROUP = 1 << 0  # AUDIT_NLGRP_READLOG, linux/audit.h
_AUDIT_SECCOMP = 1326
_NETLINK_HEADER = 16
_RECORD = re.compile(rb" uid=(\d+) .* pid=(\d+) .* syscall=(\d+) ")


class ProgramWatch:
    """Samples the processes of one box.

    Args:
        pids: gives the PIDs of the box's processes, in this host's namespace.

    Attributes:
        peak: the most processes and threads seen alive at once.
    """

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._names: dict[str, None] = {}
        self.peak = 0

    @property
    def executed(self) -> tuple[str, ...]:
        """Names of the programs seen, in the order in which they were seen first."""
        return tuple(self._names)

    def look(self) -> float:
        """Take one sample; the seconds of CPU time that it took.

        It may wait for a process that is in execve(2) until this gets a CPU, which a program can
        keep from it: call it in a thread.
        """
        began = time.thread_time()
        alive = 0
        for pid in self._pids():
            try:
                with open(f"/proc/{pid}/stat", "rb") as file:
                    head, _, tail = file.read().rpartition(b") ")
            except OSError:
                continue
            alive += int(tail.split(None, 18)[17])
            if len(self._names) < _MAX_NAMES:
                self._names.setdefault(_program(pid) or _comm(head))
        self.peak = max(self.peak, alive)
        return time.thread_time() - began

    async def watch(self, besides: Callable[[], None] = lambda: None) -> None:
        """Sample until cancelled, and call ``besides`` as often, whatever the samples wait for."""
        await asyncio.sleep(_FIRST)
        loop = asyncio.get_running_loop()
        looking = loop.run_in_executor(_LOOKING, self.look)
        while True:
            began = time.perf_counter()
            besides()
            spent = time.perf_counter() - began
            await asyncio.wait({looking}, timeout=_INTERVAL)
            if looking.done():
                spent += looking.result()
                await asyncio.sleep(max(_INTERVAL, spent / _SHARE))
                looking = loop.run_in_executor(_LOOKING, self.look)


def _program(pid: int) -> str | None:
    """Name of the file that a process executes; None if this host is not allowed to read it."""
    try:
        path = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None
    return path.rpartition("/")[2].encode(errors="replace").decode()[:64] or None


def _comm(stat_head: bytes) -> str:
    """A process's ``comm``, a name which it can set to anything."""
    return stat_head.partition(b" (")[2].decode(errors="replace")


class RefusalsUnreadable(Exception):
    """The kernel's audit records cannot be read here; the message says why."""


@dataclass(frozen=True)
class Refusal:
    """One system call that a filter refused; IDs are those of this host's namespaces."""

    pid: int
    uid: int
    call: str


@dataclass
class Refusals:
    """The refused calls of one run.

    Attributes:
        belongs: whether a refusal is this run's.
        calls: system call to how often it was refused.
    """

    belongs: Callable[[Refusal], bool]
    calls: Counter[str] = field(default_factory=Counter)

    def note(self, refusal: Refusal) -> None:
        """Count a refusal."""
        if refusal.call in self.calls or len(self.calls) < _MAX_CALLS:
            self.calls[refusal.call] += 1


class RefusalLog:
    """Reads audit records and assigns each to the run it belongs to.

    Needs CAP_AUDIT_READ in the initial user namespace, and the initial network namespace; so the
    host must be root on the machine itself. Construct it on a running event loop.

    Raises:
        RefusalsUnreadable: says what is missing.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_AUDIT)
        except OSError as error:
            raise RefusalsUnreadable(f"audit netlink socket: {error.strerror}") from None
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, _READLOG_GROUP))
            _kernel_logs_refusals()
        except OSError as error:
            self._socket.close()
            raise RefusalsUnreadable(f"audit records: {error.strerror}") from None
        self._runs: list[Refusals] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self.read)

    @contextlib.contextmanager
    def of_run(self, belongs: Callable[[Refusal], bool]) -> Iterator[Refusals]:
        """Count the refusals that ``belongs`` accepts while the context lasts."""
        run = Refusals(belongs)
        self._runs.append(run)
        try:
            yield run
        finally:
            self._runs.remove(run)

    def read(self) -> None:
        """Read all pending records; call it before you use a run's counts."""
        while True:
            try:
                record = self._socket.recv(8192)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue  # records were lost; counts are lower bounds anyway
            refusal = parse(record)
            owner = refusal and next((r for r in self._runs if r.belongs(refusal)), None)
            if refusal and owner:
                owner.note(refusal)

    def close(self) -> None:
        """Stop reading."""
        self._loop.remove_reader(self._socket)
        self._socket.close()


def parse(message: bytes) -> Refusal | None:
    """Parse a netlink message; None if it is another kind of record."""
    if int.from_bytes(message[4:6], "little") != _AUDIT_SECCOMP:
        return None
    match = _RECORD.search(message, _NETLINK_HEADER)
    if match is None:
        return None
    uid, pid, number = (int(group) for group in match.groups())
    return Refusal(pid, uid, name_of(number))


def _kernel_logs_refusals() -> None:
    """Raise OSError if the kernel does not log calls that a filter refuses with an errno."""
    path = Path("/proc/sys/kernel/seccomp/actions_logged")
    if "errno" not in path.read_text().split():
        raise OSError(0, "refusals are not among kernel.seccomp.actions_logged")
