"""Runs one program in a bubblewrap box: starts it, watches it, makes its result."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Iterator
from functools import partial

from domain.contracts.job import Behaviour, Usage
from sandbox_host.linux.behaviour import ProgramWatch
from sandbox_host.linux.cgroups.types import GroupUsage
from sandbox_host.linux.cpus import bind
from sandbox_host.linux.processes import descendants
from sandbox_host.linux.watchdog import MemoryWatchdog
from sandbox_host.run.background import in_background, when
from sandbox_host.run.events import security_event
from sandbox_host.run.verdicts import Ending, Kill
from sandbox_host.runtimes.base import RunRecord, RunResult
from sandbox_host.runtimes.bubblewrap.box import BwrapBox
from sandbox_host.runtimes.bubblewrap.command_line import OWN_PROCESSES


async def run_in(
    box: BwrapBox, record: RunRecord, command: list[str], kill_requested: asyncio.Event
) -> RunResult:
    """Run the record's job in ``box``, which nothing has used before; the box ends with it.

    Raises:
        BoxGone: the box died before the program started.
        OSError: the kernel refuses a file or a limit.
        RuntimeFailure: the box cannot be given the job.
    """
    try:
        with _bound(box):
            await box.begin(record.job, command, (record.stdout, record.stderr))
            record.started = time.perf_counter()
            return await _supervise(box, record, kill_requested)
    finally:
        await asyncio.shield(box.process.aclose())


@contextlib.contextmanager
def _bound(box: BwrapBox) -> Iterator[None]:
    """Bind the box to a CPU of its own, unless something else limits its share."""
    if box.cpus is None:
        yield
        return
    with box.cpus.one() as cpu:
        bind([box.init, *descendants(box.init)], cpu)
        yield


async def _supervise(box: BwrapBox, record: RunRecord, kill_requested: asyncio.Event) -> RunResult:
    process, files, limits = box.process, box.files, box.limits
    watch = ProgramWatch(lambda: descendants(box.init))
    watchdog = MemoryWatchdog(
        box.init,
        limits.memory_bytes,
        lambda: process.kill(Kill.MEMORY),
        files.memory_bytes,
        mappings=True,
    )

    def too_many_inodes() -> None:
        if files.has_too_many_inodes():
            process.kill(Kill.DISK)

    async with contextlib.AsyncExitStack() as running:
        deadline = asyncio.get_running_loop().call_later(
            limits.wall_seconds, process.kill, Kill.DEADLINE
        )
        running.callback(deadline.cancel)
        in_background(
            running, when(kill_requested, partial(process.kill, Kill.REQUEST)), process.kill
        )
        in_background(running, watch.watch(too_many_inodes), process.kill)
        if box.group is None:
            process.before_end.append(watchdog.sample_cpu)
            in_background(running, watchdog.watch(), process.kill)
        returncode, rusage = await process.wait()
    wall_ms = (time.perf_counter() - record.started) * 1e3
    if box.group is not None:
        counted = box.group.usage()
    else:
        counted = _without_group(rusage, watchdog, watch, limits.processes)
    ending = Ending(
        returncode,
        process.kill_reason,
        oom=counted.oom_kills > 0,
        process_limit=counted.process_refusals > 0,
        disk_full=files.is_full(),
    )
    if not process.program_ran and ending.kill is None and not ending.oom:
        # PID 1 has the program's own user, so the program can write to its memory. To run it again
        # would not help.
        security_event("agent_killed", "a program ended its box", box=str(box.init))
    record.behaviour = Behaviour(executed=watch.executed, network_attempts=box.network.attempts())
    usage = _usage(wall_ms, counted.since(box.before), files.used_bytes())
    return record.result(ending, usage, await files.collect(limits.artifact_bytes))


def _without_group(
    rusage: resource.struct_rusage | None,
    watchdog: MemoryWatchdog,
    watch: ProgramWatch,
    processes: int,
) -> GroupUsage:
    """The usage as far as it is known: sampled before a kill, or of the processes waited for.

    Nothing counts the processes that the kernel refuses. If as many as the limit were seen at once,
    the limit counts as reached.
    """
    user, system = watchdog.cpu_user_ms, watchdog.cpu_system_ms
    if rusage is not None:
        user, system = max(user, rusage.ru_utime * 1e3), max(system, rusage.ru_stime * 1e3)
    known = rusage is not None or user + system > 0
    peak = max(watch.peak, watchdog.peak_processes)
    return GroupUsage(
        cpu_user_ms=user if known else None,
        cpu_system_ms=system if known else None,
        peak_memory_bytes=watchdog.peak or None,
        oom_kills=0,
        process_refusals=int(peak >= processes),
        peak_processes=peak + OWN_PROCESSES,
    )


def _usage(wall_ms: float, counted: GroupUsage, disk_bytes: int) -> Usage:
    peak = counted.peak_processes
    return Usage(
        wall_ms=wall_ms,
        cpu_user_ms=counted.cpu_user_ms,
        cpu_system_ms=counted.cpu_system_ms,
        peak_memory_bytes=counted.peak_memory_bytes,
        disk_bytes=disk_bytes,
        peak_processes=None if peak is None else peak - OWN_PROCESSES,
    )
