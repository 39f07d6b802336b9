"""The CPU of each program, where no cgroup holds its share.

There a program of many processes would take nearly all there is, and the host that is to end it
would wait for its turn. Where the kernel shares CPUs out by session, as it does unless
``kernel.sched_autogroup_enabled`` is 0, setsid(2) would give each of them as much as the host has.
So every program has one CPU, sched_setaffinity(2), and the first one is the host's alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

#: linux/capability.h: to bind processes of other users.
_CAP_SYS_NICE = 23


class ProgramCpus:
    """Hands out the CPUs in turn, all that this process may use but the first."""

    def __init__(self) -> None:
        self._turns = itertools.count()

    def take(self) -> int:
        """The number of the next program's CPU; where there is only one, that."""
        allowed = sorted(os.sched_getaffinity(0))
        offered = allowed[1:] or allowed
        return offered[next(self._turns) % len(offered)]

    @staticmethod
    def described() -> str:
        """What holds, for ``/health``."""
        if len(os.sched_getaffinity(0)) == 1:
            return "the machine's only one, shared with the host"
        return "one per program, the first is the host's alone"


def bind(pids: Iterable[int], cpu: int) -> None:
    """Let processes, and what they will start, run on ``cpu`` only; ended ones are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {cpu})


def may_bind_others() -> bool:
    """Whether this process may `bind` those of other users."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective >> _CAP_SYS_NICE & 1)
