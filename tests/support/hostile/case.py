"""What a hostile program is, as data: what it tries, how it must end, how containment shows.

The families (`resources`, `lifetime`, …) hold nothing but records of these kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.contracts.job import SandboxResult, Verdict
from tests.support.sandbox.runtimes import BUBBLEWRAP, CONFINED, DOCKER, GVISOR, OCI, RLIMITS

#: Those that differ in what a program can reach; without cgroups bubblewrap's boxes are the same.
PROBED_RUNTIMES = (OCI, DOCKER, GVISOR, BUBBLEWRAP, CONFINED)

#: Whether a result shows that the program was contained.
Predicate = Callable[[SandboxResult], bool]

Verdicts = tuple[Verdict, ...]
SUCCEEDED: Verdicts = (Verdict.SUCCEEDED,)


@dataclass(frozen=True)
class Otherwise:
    """What holds on one runtime instead, and why it honestly differs there."""

    why: str
    verdicts: Verdicts = SUCCEEDED
    contained: Predicate | None = None


@dataclass(frozen=True)
class Program:
    """One hostile program, which has a box to itself.

    Attributes:
        name: of the case, in words joined by hyphens.
        tries: what it attempts, as one phrase for the documentation.
        source: in ``language``.
        contained: shown the result.
        verdicts: those that are right; more than one where the kernel may choose.
        limits: fields of `JobLimits`, beside a deadline of thirty seconds.
        elsewhere: by runtime, what holds there instead.
        without_cgroups: also run where bubblewrap's limits are held without a cgroup.
        killed_after: seconds until an operator has it killed.
        needs: a capability without which it makes no sense; see `tests.support.sandbox.runtimes`.
    """

    name: str
    tries: str
    source: str
    contained: Predicate
    verdicts: Verdicts = SUCCEEDED
    limits: Mapping[str, float] = field(default_factory=dict)
    language: str = "python"
    stdin: str = ""
    elsewhere: Mapping[str, Otherwise] = field(default_factory=dict)
    without_cgroups: bool = False
    killed_after: float | None = None
    needs: str = ""

    def runs_on(self, runtime: str) -> bool:
        """Whether it is part of the suite of this runtime."""
        return runtime != RLIMITS or self.without_cgroups

    def expected_on(self, runtime: str) -> tuple[Verdicts, Predicate]:
        """The right verdicts and the predicate on one runtime."""
        other = self.elsewhere.get(runtime)
        if other is None:
            return self.verdicts, self.contained
        return other.verdicts, other.contained or self.contained


@dataclass(frozen=True)
class Probe:
    """One harmless attempt; all probes of a family share a box, each in a process of its own.

    Attributes:
        name: of the case.
        tries: what it attempts.
        action: Python statements, see `tests.support.hostile.probing`. To raise OSError or
            ``Refused``, or to be killed by a signal, is to be refused; to end normally is to have
            reached it.
        open_on: by runtime, why it is *not* refused there, and what that means.
        machine: the only architecture on which it makes sense; empty for every one.
    """

    name: str
    tries: str
    action: str
    open_on: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""


def prints(text: str) -> Predicate:
    """Standard output is exactly this."""
    return lambda result: result.stdout == text


def number(low: int, high: int) -> Predicate:
    """Standard output is one number within these bounds, both included."""

    def within(result: SandboxResult) -> bool:
        text = result.stdout.strip()
        return text.isdigit() and low <= int(text) <= high

    return within


def ended_by(signal: int) -> Predicate:
    """The program was ended by this signal."""
    return lambda result: result.signal == signal and result.exit_code is None


def exited(code: int) -> Predicate:
    """The program exited with this code."""
    return lambda result: result.exit_code == code and result.signal is None


def memory_below(limit: int) -> Predicate:
    """The box's peak, where it could be measured, stayed below ``limit`` and a page or so."""

    def below(result: SandboxResult) -> bool:
        peak = result.usage and result.usage.peak_memory_bytes
        return (peak or 0) <= limit + (1 << 20)

    return below


def ended_within(milliseconds: float) -> Predicate:
    """The run did not last longer; generous, for a busy machine."""
    return lambda result: result.usage is not None and result.usage.wall_ms < milliseconds


def every(*predicates: Predicate) -> Predicate:
    """All of them hold."""
    return lambda result: all(predicate(result) for predicate in predicates)


def anyhow(_: SandboxResult) -> bool:
    """The verdict and an unharmed host say all."""
    return True


def limits(**fields: Any) -> dict[str, Any]:
    """Limits by name, for readability of the records."""
    return fields
