"""Binds each program to one CPU, if no cgroup limits its share.

Without a limit, a program with many processes would take nearly all CPU time, and the host could
not kill it promptly. The kernel may share CPU time among sessions (unless
``kernel.sched_autogroup_enabled`` is 0); then each process that calls setsid(2) would get as much
as the host. So every program gets one CPU, by sched_setaffinity(2), and the first CPU is kept for
the host.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

#: The capability to bind processes of other users; linux/capability.h.
_CAP_SYS_NICE = 23


class ProgramCpus:
    """Assigns CPUs in turn: all that this process may use, except the first."""

    def __init__(self) -> None:
        self._turns = itertools.count()

    def take(self) -> int:
        """The number of the next program's CPU; if there is only one CPU, that one."""
        allowed = sorted(os.sched_getaffinity(0))
        offered = allowed[1:] or allowed
        return offered[next(self._turns) % len(offered)]

    @staticmethod
    def description() -> str:
        """How CPUs are assigned, for ``/health``."""
        if len(os.sched_getaffinity(0)) == 1:
            return "the machine's only one, shared with the host"
        return "one per program, the first is the host's alone"


def bind(pids: Iterable[int], cpu: int) -> None:
    """Let processes, and their later children, run on ``cpu`` only; ended ones are skipped."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {cpu})


def may_bind_others() -> bool:
    """Whether this process may `bind` processes of other users."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective >> _CAP_SYS_NICE & 1)
