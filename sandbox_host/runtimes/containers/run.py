"""Runs one program in a docker box: starts it, waits for its end or kills it, makes its result."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from domain.contracts.job import Behaviour, SkippedArtifact, Usage
from sandbox_host.linux.behaviour import ProgramWatch
from sandbox_host.linux.cgroups.types import GroupUsage
from sandbox_host.run.artifacts import Collected
from sandbox_host.run.output import stopping_floods
from sandbox_host.run.verdicts import KILLED, Ending, Kill
from sandbox_host.runtimes.base import RunControl, RunRecord, RunResult, RuntimeFailure
from sandbox_host.runtimes.containers.box import NO_OVERHEAD, ContainerBox, ProgramEnd
from sandbox_host.runtimes.containers.capabilities import NOT_COLLECTED

_KILLED = ProgramEnd(KILLED)

#: Without a workspace, the host cannot see whether there are artifacts; every result says so.
_UNSEEN = Collected(skipped=(SkippedArtifact(name=".", reason=NOT_COLLECTED),))

_NOTHING = GroupUsage(None, None, None, 0)


@dataclass
class _Account:
    """What the host observed of one run.

    Attributes:
        before: the group's counters when the box got the job; what making the box used is not the
            job's usage.
        own: counters of the container's own group at the end, or before a kill removed it.
        executed: the programs seen in samples.
        most_seen: the most processes seen alive at once in a sample.
    """

    kill: Kill | None = None
    ended: ProgramEnd = _KILLED
    wall_ms: float = 0.0
    before: GroupUsage = _NOTHING
    own: GroupUsage = _NOTHING
    executed: tuple[str, ...] = ()
    most_seen: int = 0


async def run_in(box: ContainerBox, record: RunRecord, control: RunControl) -> RunResult:
    """Run the record's job in ``box``, which nothing has used before.

    Raises:
        BoxGone: the box died before the program started.
        RuntimeFailure: the engine failed, or the box cannot be given the job.
    """
    account = _Account(before=box.group.usage() if box.group else _NOTHING)
    flooded = asyncio.Event()
    record.started = time.perf_counter()
    try:
        out = stopping_floods(record.stdout, flooded.set)
        err = stopping_floods(record.stderr, flooded.set)
        await box.begin(record.job, out, err)
    except OSError as error:
        raise RuntimeFailure(f"give the box its job: {error}") from error
    try:
        async with _programs_seen(box, account):
            seconds = record.job.job.limits.wall_seconds
            await _supervise(box, account, seconds, flooded, control.kill)
    except asyncio.CancelledError:
        with contextlib.suppress(RuntimeFailure):  # its removal kills it as well
            await asyncio.shield(box.kill())
        raise
    account.wall_ms = (time.perf_counter() - record.started) * 1e3
    return await asyncio.to_thread(_conclude, box, record, account)


@contextlib.asynccontextmanager
async def _programs_seen(box: ContainerBox, account: _Account) -> AsyncIterator[None]:
    group = box.seen_group
    if group is None:
        yield
        return
    watch = ProgramWatch(lambda: group.pids()[1:])  # the first is the agent
    watching = asyncio.create_task(watch.watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        account.executed, account.most_seen = watch.executed, watch.peak


async def _supervise(
    box: ContainerBox,
    account: _Account,
    seconds: float,
    flooded: asyncio.Event,
    kill_requested: asyncio.Event,
) -> None:
    """Wait for the program's end; kill it at its deadline, for too much output, or on request."""
    ended = asyncio.create_task(box.ended())
    others = [asyncio.create_task(event.wait()) for event in (flooded, kill_requested)]
    try:
        await asyncio.wait({ended, *others}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if box.own_group is not None:
            account.own = box.own_group.usage()
        if ended.done():
            account.ended = ended.result()
            return
    finally:
        for task in (ended, *others):
            task.cancel()
    account.kill = Kill.DEADLINE
    if kill_requested.is_set():
        account.kill = Kill.REQUEST
    elif flooded.is_set():
        account.kill = Kill.OUTPUT
    await box.kill()


def _conclude(box: ContainerBox, record: RunRecord, account: _Account) -> RunResult:
    limits = record.job.job.limits
    used = (box.group.usage() if box.group is not None else _NOTHING).since(account.before)
    workspace = box.workspace
    space = workspace.space() if workspace is not None else None
    try:
        collected = workspace.collect(limits.artifact_bytes) if workspace is not None else _UNSEEN
    except OSError as error:
        raise RuntimeFailure(f"collect artifacts: {error}") from error
    # The engine may miss the kernel's event; but a SIGKILL at the limit has no other cause.
    at_limit = account.ended.returncode == KILLED and box.memory_was_full()
    ending = Ending(
        returncode=account.ended.returncode,
        kill=account.kill,
        oom=account.ended.oom or at_limit or bool(used.oom_kills or account.own.oom_kills),
        process_limit=bool(used.process_refusals or account.own.process_refusals),
        disk_full=space is not None and space.full,
    )
    usage = Usage(
        wall_ms=account.wall_ms,
        cpu_user_ms=used.cpu_user_ms,
        cpu_system_ms=used.cpu_system_ms,
        peak_memory_bytes=used.peak_memory_bytes,
        disk_bytes=space and space.used_bytes,
        peak_processes=_most_processes(box, account, used),
    )
    record.behaviour = Behaviour(executed=account.executed, network_attempts=box.network_attempts())
    return record.result(ending, usage, collected)


def _most_processes(box: ContainerBox, account: _Account, used: GroupUsage) -> int | None:
    """The kernel's count without the agent; the sampled one, if making the box had more at once."""
    if box.overhead != NO_OVERHEAD or used.peak_processes is None:
        return None
    if used.peak_processes > (account.before.peak_processes or 0):
        return used.peak_processes - NO_OVERHEAD.processes
    return max(1, account.most_seen)
