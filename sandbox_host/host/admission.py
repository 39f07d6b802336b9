"""Limits how much runs at once: a program starts only when the memory it may use is free.

CPU is limited by the number of workers (`sandbox_host.host.consumer`); each runs one program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from domain.contracts.job import JobLimits
from sandbox_host.run.job import InvalidJob

#: Share of this machine's, or this container's, memory that programs and waiting boxes may take.
_SHARE = 0.75

#: Default memory for waiting boxes, bytes.
_POOL_BYTES = 256 * 1024**2


class MemoryBudget:
    """Grants memory in the order of the requests, so that large jobs do not starve.

    Args:
        total: bytes.
        usual: bytes that a job usually requests.
    """

    def __init__(self, total: int, usual: int = JobLimits().memory_bytes) -> None:
        self.total = total
        self.reserved = 0
        self._usual = usual
        self._waiting: deque[tuple[int, asyncio.Event]] = deque()
        self._has_capacity = asyncio.Event()
        self._has_capacity.set()

    @property
    def waiting(self) -> int:
        """Jobs that wait for memory."""
        return len(self._waiting)

    async def wait_for_capacity(self) -> None:
        """Wait until a usual job could start; a job received earlier would only wait here."""
        await self._has_capacity.wait()

    def check(self, amount: int) -> None:
        """Refuse an amount that can never be granted.

        Raises:
            InvalidJob: names the field and the limit.
        """
        if amount > self.total:
            raise InvalidJob(
                f"limits.memory_bytes: {amount} is more than the {self.total} bytes that this host"
                " gives to programs; ask for less, or raise QLP_SANDBOX_MEMORY_BYTES"
            )

    @contextlib.asynccontextmanager
    async def reserve(self, amount: int) -> AsyncIterator[None]:
        """Wait for ``amount`` bytes and keep them reserved while the block runs.

        Raises:
            InvalidJob: it is more than the total.
        """
        self.check(amount)
        await self._take(amount)
        try:
            yield
        finally:
            self.reserved -= amount
            self._hand_out()

    async def _take(self, amount: int) -> None:
        granted = asyncio.Event()
        self._waiting.append((amount, granted))
        self._hand_out()
        try:
            await granted.wait()
        except asyncio.CancelledError:
            if granted.is_set():
                self.reserved -= amount
            else:
                self._waiting.remove((amount, granted))
            self._hand_out()
            raise

    def _hand_out(self) -> None:
        while self._waiting and self.reserved + self._waiting[0][0] <= self.total:
            amount, granted = self._waiting.popleft()
            self.reserved += amount
            granted.set()
        usual_fits = self.reserved == 0 or self.reserved + self._usual <= self.total
        if usual_fits and not self._waiting:
            self._has_capacity.set()
        else:
            self._has_capacity.clear()


@dataclass(frozen=True)
class MemoryShares:
    """How this machine's memory is divided, bytes.

    Attributes:
        programs: for all running programs.
        pool: for all boxes that wait for a program.
    """

    programs: int
    pool: int

    @classmethod
    def of_host(cls, programs: int | None, pool: int | None) -> MemoryShares:
        """The shares; each that is None is derived from the memory that this process may use.

        Together they then take `_SHARE` of it, of which the pool takes an eighth, and at most
        `_POOL_BYTES`.
        """
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        usable = int(_SHARE * min([physical, *cgroup_limits()]))
        if pool is None:
            pool = min(_POOL_BYTES, usable // 8)
        return cls(max(0, usable - pool) if programs is None else programs, pool)


def cgroup_limits(
    own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Memory limits, in bytes, of this process's cgroup and its ancestors, on v1 and v2.

    In a container that sees its own cgroup as the root, the paths in ``own`` may not exist below
    ``mounted``; then the root itself has the limit.

    Args:
        own: ``/proc/PID/cgroup`` of this process.
        mounted: where the hierarchies are mounted.
    """
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = mounted, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            with contextlib.suppress(OSError):
                text = (group / name).read_text().strip()
                if text.isdecimal():  # on v2, "max" means no limit
                    yield int(text)
