"""Binds each program to one CPU, if no cgroup limits its share.

Without a limit, a program with many processes would take nearly all CPU time, and the host could
not kill it promptly. The kernel may share CPU time among sessions (unless
``kernel.sched_autogroup_enabled`` is 0); then each process that calls setsid(2) would get as much
as the host. So every program gets one CPU, by sched_setaffinity(2), and never the first, which the
host needs.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

#: The capability to bind processes of other users; linux/capability.h.
_CAP_SYS_NICE = 23


class ProgramCpus:
    """Assigns CPUs to programs: of all that this process may use, except the first."""

    def __init__(self) -> None:
        self._programs: Counter[int] = Counter()

    @contextlib.contextmanager
    def one(self) -> Iterator[int]:
        """The CPU with the fewest programs, for as long as the block takes.

        If this process may use only one CPU, that one.
        """
        allowed = sorted(os.sched_getaffinity(0))
        cpu = min(allowed[1:] or allowed, key=lambda each: self._programs[each])
        self._programs[cpu] += 1
        try:
            yield cpu
        finally:
            self._programs[cpu] -= 1

    @staticmethod
    def description() -> str:
        """How CPUs are assigned, for ``/health``."""
        if len(os.sched_getaffinity(0)) == 1:
            return "one for all programs, which this host uses too: it may use no other"
        return "one per program, never the first, which this host needs"


def bind(pids: Iterable[int], cpu: int) -> None:
    """Let processes, and what they start later, run on ``cpu`` only; ended ones are skipped."""
    _let_run(pids, {cpu}, ProcessLookupError)


def unbind(pids: Iterable[int]) -> None:
    """Let killed processes run wherever this one may: each must run once more to end.

    Where that is refused, they were not bound either.
    """
    _let_run(pids, os.sched_getaffinity(0), OSError)


def _let_run(pids: Iterable[int], cpus: set[int], expected: type[OSError]) -> None:
    for pid in pids:
        for thread in threads_of(pid):
            with contextlib.suppress(expected):
                os.sched_setaffinity(thread, cpus)


def threads_of(pid: int) -> list[int]:
    """The ids of a process's threads; none if it has ended."""
    try:
        return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def may_bind_others() -> bool:
    """Whether this process may `bind` processes of other users."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective >> _CAP_SYS_NICE & 1)
