"""Decides the verdict on a run, from what the host itself observed and did."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from domain.contracts.job import Verdict

#: The return code of a program ended by SIGKILL.
KILLED = -9


class Kill(Enum):
    """Why the host killed a box."""

    DEADLINE = "deadline"
    OUTPUT = "output"
    MEMORY = "memory"
    DISK = "disk"
    REQUEST = "request"


@dataclass(frozen=True)
class Ending:
    """How a box ended.

    Attributes:
        returncode: of the program, as in Python's ``subprocess``: its exit code from 0 to 255, or
            the negated number of the signal that ended it.
        kill: why the host killed it, if it did.
        oom: the kernel killed a process in the box because of its memory limit, or the memory in
            use reached the limit.
        process_limit: the kernel refused the box another process.
        disk_full: at the end, the box's writable space had no block or no inode left.
    """

    returncode: int
    kill: Kill | None = None
    oom: bool = False
    process_limit: bool = False
    disk_full: bool = False

    @property
    def exit_code(self) -> int | None:
        """The program's exit code, if it exited."""
        return self.returncode if self.returncode >= 0 else None

    @property
    def signal(self) -> int | None:
        """The signal that ended the program, if one did."""
        return -self.returncode if self.returncode < 0 else None


_BY_KILL = {
    Kill.DEADLINE: Verdict.TIMED_OUT,
    Kill.OUTPUT: Verdict.OUTPUT_LIMIT,
    Kill.MEMORY: Verdict.OUT_OF_MEMORY,
    Kill.DISK: Verdict.DISK_LIMIT,
    Kill.REQUEST: Verdict.KILLED_BY_OPERATOR,
}


def judge(ending: Ending) -> Verdict:
    """The verdict; a kill by the host takes precedence over the program's own end.

    A program that exits with 0 has succeeded, even if the memory limit killed one of its children.
    """
    if ending.kill is not None:
        return _BY_KILL[ending.kill]
    if ending.returncode == 0:
        return Verdict.SUCCEEDED
    if ending.oom:
        return Verdict.OUT_OF_MEMORY
    if ending.disk_full:
        return Verdict.DISK_LIMIT
    if ending.process_limit:
        return Verdict.PROCESS_LIMIT
    return Verdict.SIGNALLED if ending.signal is not None else Verdict.EXITED


def limits_hit(ending: Ending) -> tuple[str, ...]:
    """Names of the `JobLimits` fields that the program reached, whatever its verdict."""
    hit = {
        "wall_seconds": ending.kill is Kill.DEADLINE,
        "memory_bytes": ending.oom or ending.kill is Kill.MEMORY,
        "output_bytes": ending.kill is Kill.OUTPUT,
        "processes": ending.process_limit,
        "disk_bytes": ending.disk_full or ending.kill is Kill.DISK,
    }
    return tuple(name for name, was_hit in hit.items() if was_hit)
