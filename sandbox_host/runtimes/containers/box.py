"""One docker box: its container, stream, workspace, pipes and cgroup."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass

from domain.contracts.job import JobLimits
from sandbox_host.linux.box_users import BoxUser
from sandbox_host.linux.cgroups.types import Cgroup, GroupLimits
from sandbox_host.linux.network_watch import NetworkWatch
from sandbox_host.run.events import security_event
from sandbox_host.run.job import PreparedJob, refused_for_good
from sandbox_host.run.output import CappedStream
from sandbox_host.run.verdicts import KILLED
from sandbox_host.runtimes.base import CPUS, BoxGone, RuntimeFailure
from sandbox_host.runtimes.containers.engine import Ended, Engine, Stream
from sandbox_host.runtimes.containers.plan import agent_header
from sandbox_host.runtimes.containers.stream import FifoReader, Sink, Withheld
from sandbox_host.runtimes.containers.workspace import Workspace

#: The agent's marks, as in its source. The last one's length includes the return code.
_READY, _STARTED, _ENDED = b"R", b"S", b"\0"
_ENDED_BYTES = 3
_FILES_REFUSED = 128

#: The agent's exit status when it ends by itself, because the host seems to be gone.
_GAVE_UP = 125

#: Minimum seconds that a restarting engine takes before it ends the containers it finds running.
_ENGINE_LOST_SECONDS = 0.2

#: Seconds in which the agent must be ready, and in which a killed box's streams must end.
_READY_SECONDS = 20.0
_DEAD_SECONDS = 10.0

#: Seconds between checks whether a killed box is empty.
_LOOK_SECONDS = 0.005

#: Bytes kept of the agent's own messages, usually a traceback.
_MESSAGE_BYTES = 4096

#: Memory of a waiting box's shim process; measured.
_SHIM_BYTES = 13 * 1024**2


@dataclass(frozen=True)
class Overhead:
    """What an OCI runtime needs in a box besides the program: processes, and bytes of memory."""

    processes: int = 1
    memory_bytes: int = 0


#: Of the engine's default runtime: one process, the agent.
NO_OVERHEAD = Overhead()


@dataclass(frozen=True)
class ProgramEnd:
    """How a program ended: its return code (see `Ending`), and whether memory ran out."""

    returncode: int
    oom: bool = False


@dataclass(frozen=True)
class BoxResources:
    """What this host has made for one box.

    Attributes:
        user: the program's user.
        workspace: None if the engine makes the writable space.
        group: the cgroup above the container's; None if this host makes none.
    """

    user: BoxUser
    workspace: Workspace | None
    group: Cgroup | None

    def release(self) -> None:
        """Release everything; processes left in the cgroup are killed."""
        if self.group is not None:
            with contextlib.suppress(OSError):  # the reaper will try again
                self.group.remove()
        if self.workspace is not None:
            self.workspace.close()
        self.user.close()


class ContainerBox:
    """A box that waits for a job, then runs it.

    Args:
        engine: runs the container.
        container: its ID.
        attached: its stream, attached before the container was started.
        own: what this host has made for the box; `close` releases it.
        limits: the limits it was made with.
        overhead: added to a job's limits.
    """

    def __init__(
        self,
        engine: Engine,
        container: str,
        attached: Stream,
        own: BoxResources,
        limits: JobLimits,
        overhead: Overhead,
    ) -> None:
        self.container = container
        self.workspace = workspace = own.workspace
        self.group = own.group
        self.own_group = own.group.below(container) if own.group is not None else None
        self._own = own
        self._network: NetworkWatch | None = None
        self._engine = engine
        self._attached = attached
        self._limits = limits
        self.overhead = overhead
        self._readers: dict[str, FifoReader] = {}
        self._ready = asyncio.Event()
        self._started = asyncio.Event()
        self._end_mark = b""
        self._messages = CappedStream(_MESSAGE_BYTES)
        self._out = Withheld(_ENDED, _ENDED_BYTES, self._messages.feed)
        attached.direct({1: self._on_stdout, 2: self._messages.feed})
        if workspace is not None and workspace.pipes:
            self._readers["marks"] = FifoReader(workspace.pipes["marks"], self._on_marks)

    @property
    def _piped(self) -> bool:
        return bool(self._readers)

    @property
    def _returncode(self) -> int | None:
        if len(self._end_mark) < _ENDED_BYTES:
            return None
        return int.from_bytes(self._end_mark[-2:], "big", signed=True)

    async def ready(self) -> None:
        """Wait until the agent waits for a job.

        Raises:
            BoxGone: the box died before that, without a message.
            RuntimeFailure: the agent failed, or took too long.
        """
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                {ready, self._attached.ended},
                timeout=_READY_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            ready.cancel()
        if not self._ready.is_set():
            lines = self._messages.text().strip().splitlines()
            if self._attached.ended.done() and not lines:
                raise BoxGone(self.container)
            why = lines[-1] if lines else f"no message within {_READY_SECONDS:.0f} s"
            raise RuntimeFailure(f"the box did not get ready: {why}")
        if self.workspace is not None:
            self.workspace.hide_pipes()
        if self.seen_group is not None:
            try:
                self._network = NetworkWatch(self.seen_group.pids()[0])
            except (OSError, IndexError):
                raise BoxGone(self.container) from None

    @property
    def seen_group(self) -> Cgroup | None:
        """The group with the program's processes; None for gVisor, which hides them."""
        return self.own_group if self.overhead == NO_OVERHEAD else None

    def network_attempts(self) -> int | None:
        """How often programs tried to reach the network; None if that is not known."""
        return None if self._network is None else self._network.attempts()

    async def broken(self) -> None:
        """See `pool.Box.broken`; a waiting box ends only if something is wrong with it."""
        await asyncio.wait({self._attached.ended})

    def cost_bytes(self) -> int | None:
        """See `sandbox_host.runtimes.pool.pool.Box.cost_bytes`."""
        used = self.group.usage().peak_memory_bytes if self.group is not None else None
        return None if used is None else used + _SHIM_BYTES

    def memory_was_full(self) -> bool:
        """Whether the memory in use has ever reached the limit."""
        peak = self.group.usage().peak_memory_bytes if self.group is not None else None
        return (peak or 0) >= self._limits.memory_bytes + self.overhead.memory_bytes

    def fit(self, limits: JobLimits) -> None:
        """Set a job's limits.

        Raises:
            OSError: the kernel refuses.
        """
        wanted = group_limits(limits, self.overhead)
        if self.group is not None and wanted != group_limits(self._limits, self.overhead):
            self.group.limit(wanted)
        if self.own_group is not None:
            self.own_group.limit_sockets(limits.memory_bytes)
        self._limits = limits

    async def begin(self, job: PreparedJob, out: Sink, err: Sink) -> None:
        """Write the files and have the agent start the program; the sinks take its output.

        Raises:
            BoxGone: the box died before the program started.
            OSError: the kernel refuses a file or a limit.
            RuntimeFailure: the agent does not read the job.
        """
        self.fit(job.job.limits)
        if self.workspace is not None:
            self.workspace.write(job)
        if self._piped and self.workspace is not None:
            for name, sink in (("out", out), ("err", err)):
                self._readers[name] = FifoReader(self.workspace.pipes[name], sink)
        else:
            self._out = Withheld(_ENDED, _ENDED_BYTES, out)
            self._attached.direct({1: self._on_stdout, 2: err})
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._attached.send(
                    agent_header(job, files_are_written=self.workspace is not None)
                )
        except TimeoutError:
            raise RuntimeFailure(
                f"the box did not read the job within {_READY_SECONDS:.0f} s"
            ) from None
        except OSError:
            raise BoxGone(self.container) from None

    async def ended(self) -> ProgramEnd:
        """Wait for the ends of the program and of its output.

        Raises:
            BoxGone: the box died before the program started.
            InvalidJob: the box's kernel cannot accept the files' names.
            RuntimeFailure: it is not known how the program ended.
        """
        ends = {reader.ended for reader in self._readers.values()}
        await asyncio.wait(ends or {self._attached.ended})
        before = self._attached.silent_seconds() if self._piped else 0.0
        if self._piped and self._returncode is not None:
            return ProgramEnd(self._returncode)
        if not self._started.is_set() and self.workspace is not None:
            raise BoxGone(self.container)
        ended = await self._engine.ended(self.container)
        if not self._started.is_set():
            number = ended.status - _FILES_REFUSED
            refused = OSError(number, os.strerror(max(0, number)))
            raise refused_for_good(refused, "files") or BoxGone(self.container)
        if not self._piped:
            self._take_end(ended)
        if self._returncode is not None:
            return ProgramEnd(self._returncode, ended.oom)
        if not (ended.oom or self.memory_was_full()):
            await self._check_who_ended_it(ended, before)
        return ProgramEnd(KILLED, ended.oom)

    def _take_end(self, ended: Ended) -> None:
        """Separate the agent's last mark from the program's output, after the stream's end."""
        if ended.status == 0:
            self._end_mark = self._out.rest
        else:
            self._out.release()

    async def _check_who_ended_it(self, ended: Ended, before: float) -> None:
        """Find out who ended the agent while a program ran.

        Args:
            ended: how the box ended.
            before: seconds by which the engine's stream had ended earlier than the box.

        Raises:
            RuntimeFailure: the engine did, or somebody told the engine to.
        """
        lost = before > _ENGINE_LOST_SECONDS
        if lost or ended.status == _GAVE_UP or await self._engine.was_killed(self.container):
            raise RuntimeFailure("the box was killed from outside")
        # The program did, which should not be possible. To run it again would not help.
        security_event("agent_killed", "a program ended its box", box=self.container)

    async def kill(self) -> None:
        """Kill everything in the box, and wait until it has ended.

        Raises:
            RuntimeFailure: it does not end.
        """
        ends = {reader.ended for reader in self._readers.values()}
        if self.own_group is not None:
            ends.add(asyncio.ensure_future(self._kill_all(self.own_group)))
        else:
            await self._engine.kill(self.container)
            ends.add(self._attached.ended)
        _, alive = await asyncio.wait(ends, timeout=_DEAD_SECONDS)
        if alive:
            raise RuntimeFailure(f"the killed box had not ended after {_DEAD_SECONDS:.0f} s")
        if self._out.rest:  # the program's output, or the agent's mark if the program just ended
            try:
                self._take_end(await self._engine.ended(self.container))
            except RuntimeFailure:
                self._out.release()

    @staticmethod
    async def _kill_all(group: Cgroup) -> None:
        """Kill without the engine, which is faster and works even if the engine is gone."""
        give_up = time.monotonic() + _DEAD_SECONDS
        while (pids := group.pids()) and time.monotonic() < give_up:
            for pid in pids:  # the first is the agent, and all others die with it
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Remove the container and everything made for it; works in any state.

        Raises:
            RuntimeFailure: the engine did not remove it.
        """
        for reader in self._readers.values():
            reader.close()
        if self._network is not None:
            self._network.close()
            self._network = None
        await self._attached.close()
        try:
            await self._engine.remove(self.container)
        finally:
            await asyncio.to_thread(self._own.release)

    def _on_stdout(self, data: bytes) -> None:
        """Take the next bytes of stdout: the agent's first two marks, then the program's output."""
        if not self._piped and not self._started.is_set():
            marks, data = data[:1], data[1:]
            self._note(marks)
            if data:
                self._on_stdout(data)
        elif data:
            self._out.feed(data)

    def _on_marks(self, data: bytes) -> None:
        for mark in data:
            self._note(bytes([mark]))

    def _note(self, mark: bytes) -> None:
        if not self._ready.is_set():
            if mark == _READY:
                self._ready.set()
            else:
                self._messages.feed(mark)
        elif not self._started.is_set():
            self._started.set()
        else:
            self._end_mark += mark
            if self._returncode is not None:
                self._readers["marks"].close()


def group_limits(limits: JobLimits, overhead: Overhead) -> GroupLimits:
    """The limits of the group above a container; they apply whatever the container's own allow."""
    return GroupLimits(
        memory_bytes=limits.memory_bytes + overhead.memory_bytes,
        processes=limits.processes + overhead.processes,
        cpus=CPUS,
    )
