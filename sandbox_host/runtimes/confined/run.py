"""Runs one confined program: starts it, watches it, makes its result."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from domain.contracts.job import Behaviour, Usage
from sandbox_host.linux.behaviour import ProgramWatch, Refusal, RefusalLog, Refusals
from sandbox_host.linux.cpus import ProgramCpus
from sandbox_host.linux.processes import below, descendants
from sandbox_host.linux.quotas import PENDING_SIGNALS
from sandbox_host.linux.watchdog import MemoryWatchdog
from sandbox_host.run.background import in_background, when
from sandbox_host.run.verdicts import Ending, Kill
from sandbox_host.runtimes.base import (
    MAX_OPEN_FILES,
    RunRecord,
    RunResult,
    RuntimeFailure,
    environment_of,
)
from sandbox_host.runtimes.confined.folder import SHARED_MEMORY, Measured, ProgramFolder
from sandbox_host.runtimes.confined.process import ConfinedProcess, Launcher, ProgramEnd
from sandbox_host.runtimes.interpreters import Interpreter

#: What a program may use besides its folder, and how; see `RIGHTS` in `launcher`.
_PATHS = {
    **dict.fromkeys(("/usr", "/lib", "/lib64", "/bin", "/sbin"), "execute"),
    **dict.fromkeys(
        (
            *("/etc/ld.so.cache", "/etc/alternatives", "/etc/nsswitch.conf"),
            *("/etc/passwd", "/etc/group", "/etc/mime.types", "/etc/ssl/openssl.cnf"),
            *("/proc/meminfo", "/proc/cpuinfo", "/proc/stat"),
        ),
        "read",
    ),
    **dict.fromkeys(("/dev/null", "/dev/full", "/dev/random", "/dev/urandom"), "device"),
    "/dev/zero": "read",  # to map it writable would give shared memory that is not counted
}

#: Seconds between measurements of the files; the share of one CPU that they may take; and the
#: longest pause that this share may cause, seconds.
_INTERVAL = 0.01
_SHARE = 0.2
_LONGEST = 0.2

#: Seconds after its deadline at which a program that still runs counts as lost.
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class HostCapabilities:
    """What this machine offers for confined programs.

    Attributes:
        interpreters: by language.
        filters: see `seccomp.confined_filters`.
        cpus: assigns a CPU to each program.
        log: of refused system calls; None if the kernel's records cannot be read.
    """

    interpreters: dict[str, Interpreter]
    launcher: Launcher
    filters: tuple[bytes, bytes]
    cpus: ProgramCpus
    log: RefusalLog | None


class ConfinedRun:
    """One program from its start to its result."""

    def __init__(
        self,
        record: RunRecord,
        capabilities: HostCapabilities,
        folder: ProgramFolder,
        uid: int | None,
        kill_requested: asyncio.Event,
    ) -> None:
        self._record = record
        self._capabilities = capabilities
        self._folder = folder
        self._uid = uid
        self._kill_requested = kill_requested
        self._files = Measured()

    async def run(self, command: list[str]) -> RunResult:
        """Run the program to its end; afterwards none of its processes is left."""
        streams = (self._record.stdout, self._record.stderr)
        with contextlib.ExitStack() as noted:
            refusals = None
            if self._capabilities.log is not None:
                refusals = noted.enter_context(self._capabilities.log.of_run(self._is_ours))
            cpu = noted.enter_context(self._capabilities.cpus.one())
            request = self._request(command, cpu)
            process = ConfinedProcess(self._capabilities.launcher, request, streams)
            try:
                return await self._run_program(process, refusals)
            finally:
                await asyncio.shield(process.aclose())

    def _is_ours(self, refusal: Refusal) -> bool:
        return refusal.uid == self._uid

    def _request(self, command: list[str], cpu: int) -> dict[str, Any]:
        """The request to `launcher`."""
        job, folder = self._record.job, self._folder
        binds = {found.bind for found in self._capabilities.interpreters.values() if found.bind}
        own = dict.fromkeys((str(folder.work), str(folder.tmp), str(folder.out)), "own")
        # In shared memory, only a user ID of its own protects a program's files from others.
        shared = {} if self._uid is None else {str(SHARED_MEMORY): "shared"}
        return {
            "command": [*command, *job.command(str(folder.work))[1:]],
            "environment": environment_of(job, str(folder.work), str(folder.tmp), str(folder.out)),
            "workspace": str(folder.work),
            "uid": self._uid,
            "cpu": cpu,
            "landlock": self._capabilities.launcher.landlock,
            "paths": {**_PATHS, **dict.fromkeys(binds, "execute"), **own, **shared},
            "filters": [part.hex() for part in self._capabilities.filters],
            "limits": self._limits(),
        }

    def _limits(self) -> dict[str, int]:
        """Resource limits per process; those on memory and disk are well above the totals."""
        limits = self._record.job.job.limits
        # With the host's own user ID, the kernel also counts all of the host's processes, and the
        # supervisor; their number now is the best estimate.
        others = 0 if self._uid is not None else _threads_of(os.geteuid()) + 1
        return {
            "RLIMIT_NPROC": limits.processes + others,
            "RLIMIT_FSIZE": limits.disk_bytes,
            "RLIMIT_DATA": 2 * limits.memory_bytes + 256 * 1024**2,
            "RLIMIT_NOFILE": MAX_OPEN_FILES,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_SIGPENDING": PENDING_SIGNALS,
            # In case nobody is left to kill it.
            "RLIMIT_CPU": math.ceil(limits.wall_seconds + _GRACE_SECONDS),
        }

    async def _run_program(self, process: ConfinedProcess, refusals: Refusals | None) -> RunResult:
        record, limits = self._record, self._record.job.job.limits
        supervisor = await process.started(record.job.stdin)
        record.started = time.perf_counter()
        watch = ProgramWatch(lambda: descendants(supervisor))
        watchdog = MemoryWatchdog(
            supervisor,
            limits.memory_bytes,
            partial(process.kill, Kill.MEMORY),
            lambda: self._files.memory_bytes,
            self._uid,
        )
        async with contextlib.AsyncExitStack() as running:
            deadline = asyncio.get_running_loop().call_later(
                limits.wall_seconds, process.kill, Kill.DEADLINE
            )
            running.callback(deadline.cancel)
            in_background(
                running,
                when(self._kill_requested, partial(process.kill, Kill.REQUEST)),
                process.kill,
            )
            in_background(running, watch.watch(), process.kill)
            in_background(running, watchdog.watch(), process.kill)
            in_background(running, self._watch_files(process, supervisor), process.kill)
            try:
                end = await asyncio.wait_for(process.wait(), limits.wall_seconds + _GRACE_SECONDS)
            except TimeoutError:
                raise RuntimeFailure("the program did not end when it was killed") from None
        wall_ms = (time.perf_counter() - record.started) * 1e3
        last, self._files = self._files, await self._measure()
        full = last.full or self._files.full
        # Deleted files are gone with the program that was killed because of them.
        disk_bytes = max(self._files.disk_bytes, last.disk_bytes if last.full else 0)
        peak = max(watch.peak, watchdog.peak_processes)
        record.behaviour = self._behaviour(watch, refusals)
        usage = Usage(
            wall_ms=wall_ms,
            cpu_user_ms=end.user_ms,
            cpu_system_ms=end.system_ms,
            peak_memory_bytes=watchdog.peak or None,
            disk_bytes=disk_bytes,
            peak_processes=peak or None,
        )
        ending = self._ending(end, process.kill_reason, peak, full)
        collected = await asyncio.to_thread(self._folder.collect, limits.artifact_bytes)
        return record.result(ending, usage, collected)

    def _ending(self, end: ProgramEnd, kill: Kill | None, peak: int, full: bool) -> Ending:
        return Ending(
            end.returncode,
            kill,
            # Nothing counts refused processes; if the limit was seen in use, it counts as reached.
            process_limit=peak >= self._record.job.job.limits.processes,
            disk_full=full or end.returncode == -signal.SIGXFSZ,
        )

    def _behaviour(self, watch: ProgramWatch, refusals: Refusals | None) -> Behaviour:
        if refusals is None or self._capabilities.log is None:
            return Behaviour(executed=watch.executed)
        self._capabilities.log.read()
        calls = dict(refusals.calls)
        return Behaviour(
            executed=watch.executed,
            refused_syscalls=calls,
            network_attempts=calls.get("socket", 0),  # only those of IP families are logged
        )

    async def _watch_files(self, process: ConfinedProcess, supervisor: int) -> None:
        pause = _INTERVAL
        while not self._files.full:
            await asyncio.sleep(pause)
            began = time.perf_counter()
            self._files = await self._measure(supervisor)
            pause = min(max(_INTERVAL, (time.perf_counter() - began) / _SHARE), _LONGEST)
        process.kill(Kill.DISK)

    async def _measure(self, supervisor: int | None = None) -> Measured:
        """What the files take now; ``supervisor`` is None after the program's end."""
        limit = self._record.job.job.limits.disk_bytes
        found = below(supervisor) if supervisor is not None else ()
        return await asyncio.to_thread(self._folder.measure, limit, found, supervisor)


def _threads_of(uid: int) -> int:
    """The processes and threads that a user has now; RLIMIT_NPROC counts them all."""
    total = 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{entry}").st_uid == uid:
                total += len(os.listdir(f"/proc/{entry}/task"))
    return total
