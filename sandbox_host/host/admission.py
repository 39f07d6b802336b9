"""How much may run here at once: a program starts only when its memory is free.

CPU is held by the number of workers (`sandbox_host.host.consumer`), each of which runs one program.
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

#: Part of this machine's memory, or of this container's, that programs and waiting boxes may take.
_SHARE = 0.75

#: Memory of waiting boxes where no setting says otherwise, bytes.
_POOL_BYTES = 256 * 1024**2


class MemoryBudget:
    """Memory handed out in the order in which it is asked for, so that large jobs do not starve.

    Args:
        total: bytes.
        usual: bytes that a job usually asks for.
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
        """Wait until a usual job could start: what is received before then would only wait here."""
        await self._has_capacity.wait()

    def check(self, amount: int) -> None:
        """Refuse what can never fit.

        Raises:
            InvalidJob: names the field and the ceiling.
        """
        if amount > self.total:
            raise InvalidJob(
                f"limits.memory_bytes: {amount} is more than the {self.total} bytes that this host"
                " gives to programs; ask for less, or raise QLP_SANDBOX_MEMORY_BYTES"
            )

    @contextlib.asynccontextmanager
    async def reserve(self, amount: int) -> AsyncIterator[None]:
        """Wait for ``amount`` bytes and hold them while the block runs.

        Raises:
            InvalidJob: it is more than there is.
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
    """How this machine's memory is shared out, bytes.

    Attributes:
        programs: of all programs that run.
        pool: of all boxes that wait for one.
    """

    programs: int
    pool: int

    @classmethod
    def of_host(cls, programs: int | None, pool: int | None) -> MemoryShares:
        """The shares; what is None goes by what this process may use.

        Both together take `_SHARE` of it, the pool at most `_POOL_BYTES` and an eighth.
        """
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        usable = int(_SHARE * min([physical, *cgroup_limits()]))
        if pool is None:
            pool = min(_POOL_BYTES, usable // 8)
        return cls(max(0, usable - pool) if programs is None else programs, pool)


def cgroup_limits(
    own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Memory limits of this process's cgroup and of those above it, v1 and v2.

    Args:
        own: ``/proc/PID/cgroup`` of this process.
        mounted: where the hierarchies are mounted.

    In a container that sees its own cgroup as the root, the paths of ``own`` may not exist below
    ``mounted``; the root itself then holds the limit.
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
                if text.isdecimal():  # v2 says "max" for none
                    yield int(text)
