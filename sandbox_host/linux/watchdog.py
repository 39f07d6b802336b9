"""Enforces a box's memory limit without a cgroup, by measuring all its processes often.

Resource limits are per process, so the total is sampled: the private memory of each of the box's
processes, plus the memory behind its files. That is what a memory cgroup would charge, seen a few
milliseconds later.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandbox_host.linux.processes import acting_as, below, descendants, stat_fields

#: Seconds between samples; the share of one CPU that they may take, and exact measurements again;
#: and the longest pause that this share may cause, seconds.
_INTERVAL = 0.005
_SHARE = 0.1
_LONGEST_PAUSE = 1.0

#: For how long a measurement that is exact says something of what is used later: at least, and at
#: most if it took long. Seconds.
_SHORTEST_TRUST, _LONGEST_TRUST = 1.0, 8.0

#: Seconds between samples of CPU time, and of mappings; the share of one CPU that each may take,
#: and the longest pause that this may cause, seconds.
_SLOW_INTERVAL, _SLOW_LONGEST = 0.25, 1.0
_SLOW_SHARE = 0.1

#: For how long a sample of CPU time that is asked for is waited for, seconds.
_CPU_SECONDS = 0.2

#: For how long a program may seem to use too much while that cannot be seen exactly: of one
#: process, and of all. And the longest part of that which is counted at once, should this host
#: itself stand still. Seconds.
_LONGEST_SECONDS, _ALL_SECONDS, _COUNTED_SECONDS = 2.0, 10.0, 0.1

_KIB = 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Bytes that the kernel takes for one mapping: a ``vm_area_struct``, and its part of a tree.
_MAPPING = 216

_TICKS_PER_MS = os.sysconf("SC_CLK_TCK") / 1e3

#: System call numbers by architecture; flags of clone(2), ``linux/sched.h``.
_VFORK = {"x86_64": 58}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE_VM, _CLONE_VFORK, _CLONE_PARENT = 0x100, 0x4000, 0x8000

#: How often the figures of two address spaces are compared.
_READS = 3


@dataclass(frozen=True)
class _Figures:
    """What one process says about itself: bytes, shared ones included, and page faults so far."""

    own: int = 0
    shared: int = 0
    faults: int = 0


@dataclass(frozen=True)
class _Exact:
    """An exact measurement.

    Attributes:
        used: bytes.
        figures: the processes' before it, by PID and start.
        files: the memory behind files then, bytes.
        at: when it ended.
        seconds: of CPU time that it took.
    """

    used: int
    figures: dict[tuple[int, int], _Figures]
    files: int
    at: float
    seconds: float

    def most(self, figures: dict[tuple[int, int], _Figures], files: int) -> int:
        """The most that can be used when the figures are these.

        A page that was shared becomes a process's own by a fault, which leaves its size the same.
        """
        added = max(0, files - self.files)
        for process, now in figures.items():
            then = self.figures.get(process, _Figures())
            added += max(0, now.own - then.own) + max(0, now.shared - then.shared)
            added += max(0, now.faults - then.faults) * _PAGE
        return self.used + added


class _Slowly:
    """Does some work again and again, in a thread of its own, since it may wait for long."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._last: Future[None] | None = None
        self._due = time.monotonic() + _SLOW_INTERVAL

    def again(self) -> None:
        """Do it, if it is time."""
        if time.monotonic() > self._due and (self._last is None or self._last.done()):
            self._last = self._thread.submit(self._paced)

    def _paced(self) -> None:
        began = time.thread_time()
        self._work()
        pause = (time.thread_time() - began) / _SLOW_SHARE
        self._due = time.monotonic() + min(max(_SLOW_INTERVAL, pause), _SLOW_LONGEST)

    def once(self, seconds: float) -> None:
        """Do it now, and wait so long for it."""
        with contextlib.suppress(TimeoutError, RuntimeError):  # or it is closed
            self._thread.submit(self._work).result(seconds)

    def close(self) -> None:
        self._thread.shutdown(wait=False)


class MemoryWatchdog:
    """Watches the processes below one process: a box's PID 1, or a program's supervisor.

    Args:
        top: that process.
        limit: bytes.
        on_excess: called once, when more is used.
        file_bytes: gives the memory behind the box's files.
        uid: the program's user, as which its processes are inspected; None if this host may inspect
            them as itself.
        mappings: count what the kernel takes for mappings; else somebody else limits their number.

    Attributes:
        peak: the most memory seen in use, bytes.
        peak_processes: the most processes and threads seen alive at once.
    """

    def __init__(
        self,
        top: int,
        limit: int,
        on_excess: Callable[[], None],
        file_bytes: Callable[[], int] = lambda: 0,
        uid: int | None = None,
        *,
        mappings: bool = False,
    ) -> None:
        self._top = top
        self._limit = limit
        self._on_excess = on_excess
        self._file_bytes = file_bytes
        self._uid = uid
        self.peak = 0
        self.peak_processes = 0
        self.cpu_user_ms = 0.0
        self.cpu_system_ms = 0.0
        self._largest = 0
        self._mappings = 0  # bytes
        self._exact: _Exact | None = None
        self._measured = 0  # processes, so far
        self._spent = 0.0  # seconds of CPU time
        # A thread for each, since all but what `_look` reads about a process that is in execve(2)
        # may take as long as it waits for a CPU, which a program can keep from it.
        self._looking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memory")
        self._measuring = ThreadPoolExecutor(max_workers=1, thread_name_prefix="exact-memory")
        self._cpu_time = _Slowly(self._sample_cpu, "cpu-time")
        self._slowly = [self._cpu_time]
        if mappings:
            self._slowly.append(_Slowly(self._count_mappings, "mappings"))

    def sample_cpu(self) -> None:
        """Record the CPU time used so far, as far as it can be seen at once."""
        self._cpu_time.once(_CPU_SECONDS)

    def _sample_cpu(self) -> None:
        user, system = cpu_times([self._top, *descendants(self._top)])
        self.cpu_user_ms = max(self.cpu_user_ms, user)
        self.cpu_system_ms = max(self.cpu_system_ms, system)

    def _count_mappings(self) -> None:
        total = 0
        with acting_as(self._uid):
            for pid in descendants(self._top):
                total += _MAPPING * _mappings(pid, self._limit // _MAPPING)
                if total > self._limit:
                    break
        self._mappings = total

    async def watch(self) -> None:
        """Sample until cancelled, or until the limit is exceeded and ``on_excess`` was called."""
        try:
            while True:
                self._spent = 0.0
                seen = await self._in(self._looking, self._look)
                if seen > min(self.peak, self._limit) and await self._exceeds():
                    self._on_excess()
                    return
                for work in self._slowly:
                    work.again()
                await asyncio.sleep(min(max(_INTERVAL, self._spent / _SHARE), _LONGEST_PAUSE))
        finally:
            self._looking.shutdown(wait=False)
            self._measuring.shutdown(wait=False)
            for work in self._slowly:
                work.close()

    def _in(self, thread: ThreadPoolExecutor, work: Callable[[], int]) -> asyncio.Future[int]:
        def timed() -> int:
            began = time.thread_time()
            try:
                return work()
            finally:
                self._spent += time.thread_time() - began

        return asyncio.get_running_loop().run_in_executor(thread, timed)

    async def _exceeds(self) -> bool:
        """Whether too much is used, or has seemed to be for long while how much does not show.

        A program can keep others from its shares: to read them waits for whoever changes its maps.
        """
        if self._largest > self._limit:  # by itself, whoever shares its pages
            self.peak = max(self.peak, self._largest)
            return True
        measuring = self._in(self._measuring, self._measure)
        times = stuck = measured = 0
        while not (await asyncio.wait({measuring}, timeout=_COUNTED_SECONDS))[0]:
            seen = await self._in(self._looking, self._look)
            times = times + 1 if seen > self._limit else 0
            stuck = min(times, stuck + 1) if self._measured == measured else 0
            measured = self._measured
            most = max(stuck / _LONGEST_SECONDS, times / _ALL_SECONDS)
            if most * _COUNTED_SECONDS >= 1:
                self.peak = max(self.peak, self._limit)
                return True
        used = measuring.result()
        self.peak = max(self.peak, used)
        return used > self._limit

    def _look(self) -> int:
        """The memory with pages that forked processes share counted for each; waits for none."""
        seen = [_resident(pid) for pid in descendants(self._top)]
        self.peak_processes = max(self.peak_processes, sum(threads for *_, threads in seen))
        self._largest = max((own for own, *_ in seen), default=0)
        used = _total(((own, shared) for own, shared, _ in seen), self._file_bytes())
        return used + self._mappings

    def _measure(self) -> int:
        """The memory, or so much of it that it is over the limit.

        Each process is measured as soon as it is found: it may be gone soon after, and another have
        what it had.
        """
        files, mappings = self._file_bytes(), self._mappings
        with acting_as(self._uid):
            figures = dict(map(_figures_of, _owners(self._top)))
            used = _total(((found.own, found.shared) for found in figures.values()), files)
            if len(figures) < 2 or used + mappings <= min(self.peak, self._limit):
                return used + mappings
            if self._exact is not None and self._says_enough(self._exact, figures, files):
                return self._exact.used + mappings
            # Forked processes share pages, which were counted for each; ask for exact shares.
            began = time.thread_time()
            used = _total(map(self._share, _owners(self._top)), files, self._limit - mappings)
            took = time.thread_time() - began
        self._exact = _Exact(used, figures, files, time.monotonic(), took)
        return used + mappings

    def _share(self, pid: int) -> tuple[int, int]:
        self._measured += 1
        return _proportional(pid)

    def _says_enough(
        self, exact: _Exact, figures: dict[tuple[int, int], _Figures], files: int
    ) -> bool:
        """Whether the last exact measurement need not be repeated yet.

        Not if the limit may be exceeded since; and if it is only the peak that may be higher, not
        until the share of CPU allows it.
        """
        most, age = exact.most(figures, files) + self._mappings, time.monotonic() - exact.at
        rest = min(exact.seconds / _SHARE, _LONGEST_TRUST)
        if most <= self.peak:
            rest = max(rest, _SHORTEST_TRUST)
        return most <= self._limit and age < rest


def _owners(top: int) -> Iterator[int]:
    """The processes below ``top`` whose memory is their own."""
    return (pid for pid, task in below(top) if not (task and _borrows_memory(pid, task)))


def _borrows_memory(pid: int, task: str) -> bool:
    """Whether ``pid`` still uses the memory of its parent, which waits: vfork(2), posix_spawn(3).

    It does if it is the last child of a thread in such a call, ``task``, and has the same memory;
    an orphan that the parent was given meanwhile has not.
    """
    with contextlib.suppress(OSError, LookupError, ValueError):
        # One that is not waiting may be in execve(2): `syscall` would wait for its end.
        if _waits(Path(task)) and _waits_for_child(Path(f"{task}/syscall").read_text()):
            return _share_memory(pid, int(task.rpartition("/")[2]))
    return False


def _share_memory(pid: int, other: int) -> bool:
    """Whether two processes have one address space, by its figures.

    Not by kcmp(2), which waits for one that is in execve(2). A program can make another address
    space with the same figures, and so use twice as much as it may.
    """
    # They change while they are read, if the child is at work.
    return any(_figures(pid) == _figures(other) for _ in range(_READS))


def _figures(pid: int) -> dict[bytes, int]:
    return _numbers(f"/proc/{pid}/status", (b"Vm", b"Rss"))


def _waits(task: Path) -> bool:
    """Whether a thread waits for something, and neither runs nor waits for a CPU."""
    state = (task / "status").read_bytes().partition(b"\nState:")[2].split(None, 1)[0]
    return state != b"R"


def _waits_for_child(syscall: str) -> bool:
    """Whether a call, in the form of proc_pid_syscall(5), lends memory to a child and waits."""
    number, *arguments = syscall.split()
    machine = platform.machine()
    if number == f"{_VFORK.get(machine)}":
        return True
    wanted = _CLONE_VM | _CLONE_VFORK
    flags = int(arguments[0], 16) if number == f"{_CLONE.get(machine)}" else 0
    return flags & (wanted | _CLONE_PARENT) == wanted


def _total(processes: Iterable[tuple[int, int]], files: int, enough: float = math.inf) -> int:
    """Memory of the processes (each with private and shared bytes) and of the box's files.

    Mapped files are among the shared bytes too, so the larger of both is counted. What is more than
    ``enough`` is not counted to its end.
    """
    private = shared = 0
    for own, with_others in processes:
        private += own
        shared += with_others
        if private + max(shared, files) > enough:
            break
    return private + max(shared, files)


def _resident(pid: int) -> tuple[int, int, int]:
    """Private bytes, shared bytes, and threads of a process; zeros if it is gone.

    Page tables and swapped memory count as private; what is mapped from disks does not count. See
    proc_pid_status(5).
    """
    found = _status(pid)
    own = sum(found.get(name, 0) for name in (b"RssAnon:", b"VmSwap:", b"VmPTE:")) * _KIB
    return own, found.get(b"RssShmem:", 0) * _KIB, found.get(b"Threads:", 0)


def _figures_of(pid: int) -> tuple[tuple[int, int], _Figures]:
    """The figures of a process, with its PID and its start; zeros if it is gone."""
    own, shared, _ = _resident(pid)
    started = faults = 0
    with contextlib.suppress(OSError):
        fields = stat_fields(f"/proc/{pid}")
        started, faults = int(fields[19]), int(fields[7]) + int(fields[9])
    return (pid, started), _Figures(own, shared, faults)


def _mappings(pid: int, enough: int) -> int:
    """How many mappings a process has; not counted much further than ``enough``."""
    found = 0
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb", buffering=0) as file:
        while found <= enough and (lines := file.read(1 << 20)):
            found += lines.count(b"\n")
    return found


def _status(pid: int) -> dict[bytes, int]:
    """Fields of a process's status; of another thread if the first has ended, and has no memory."""
    names = (b"RssAnon:", b"RssShmem:", b"VmSwap:", b"VmPTE:", b"Threads:")
    found = _numbers(f"/proc/{pid}/status", names)
    if b"RssAnon:" not in found and found.get(b"Threads:", 0) > 1:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                of_thread = _numbers(f"/proc/{pid}/task/{thread}/status", names)
                if b"RssAnon:" in of_thread:
                    return of_thread
    return found


def _proportional(pid: int) -> tuple[int, int]:
    """Private and shared bytes, shared pages divided by users, if ``smaps_rollup`` is readable."""
    found = _shares(pid)
    if not found:
        return _resident(pid)[:2]
    own = found.get(b"Pss_Anon:", 0) + found.get(b"SwapPss:", 0) + _status(pid).get(b"VmPTE:", 0)
    return own * _KIB, found.get(b"Pss_Shmem:", 0) * _KIB


def _shares(pid: int) -> dict[bytes, int]:
    """Of ``smaps_rollup``; that of another thread if the first has ended, as in `_status`."""
    names = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")
    found = _numbers(f"/proc/{pid}/smaps_rollup", names)
    if not found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):  # a process's files are under its id too
                if found := _numbers(f"/proc/{thread}/smaps_rollup", names):
                    break
    return found


def _numbers(path: str, names: tuple[bytes, ...]) -> dict[bytes, int]:
    """The numbers in a file of ``name: number …`` lines; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")  # a process's name may hold all other line ends
    except OSError:
        return {}
    words = (line.split(None, 2) for line in lines if line.startswith(names))
    return {name: int(number) for name, number, *_ in words}


def private_bytes(pids: Iterable[int]) -> int:
    """Private resident memory of ``pids``."""
    return sum(_resident(pid)[0] for pid in pids)


def run_ms(pids: Iterable[int]) -> float:
    """Milliseconds that ``pids``, with one thread each, ran on a CPU; proc(5), ``schedstat``."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return total / 1e6


def cpu_times(pids: list[int]) -> tuple[float, float]:
    """User and system milliseconds of ``pids`` and of the children they waited for; proc(5)."""
    user = system = 0.0
    for pid in pids:
        try:
            fields = stat_fields(f"/proc/{pid}")
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return user / _TICKS_PER_MS, system / _TICKS_PER_MS
