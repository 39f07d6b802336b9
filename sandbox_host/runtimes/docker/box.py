"""One docker box, from creation to removal: container, stream, workspace, pipes, cgroup."""

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
from sandbox_host.runtimes.docker.engine import DockerEngine, Ended
from sandbox_host.runtimes.docker.settings import agent_header
from sandbox_host.runtimes.docker.stream import Attached, FifoReader, Sink, Withheld
from sandbox_host.runtimes.docker.workspace import Workspace

#: The agent's marks; its source knows the same. The last one's length includes the return code.
_READY, _STARTED, _ENDED = b"R", b"S", b"\0"
_ENDED_BYTES = 3
_NOT_LAID = 128

#: The agent's exit status where it ends by itself: nobody is left to work for.
_GAVE_UP = 125

#: Seconds that an engine which starts again takes at least, before it ends what it finds running.
_ENGINE_LOST_SECONDS = 0.2

#: Seconds in which the agent must be ready, and in which a killed box's streams must end.
_READY_SECONDS = 20.0
_DEAD_SECONDS = 10.0

#: Seconds between looks at whether a killed box is empty.
_LOOK_SECONDS = 0.005

#: Bytes kept of what the agent itself has to say, which is a traceback if anything.
_WORDS = 4096

#: Bytes of a shim process, which a waiting box also costs; measured: 13 MB.
_SHIM_BYTES = 13 * 1024**2


@dataclass(frozen=True)
class Overhead:
    """What boxes of an OCI runtime need beside their programs: processes, and bytes of memory."""

    processes: int = 1
    memory_bytes: int = 0


#: Of the engine's default runtime: the agent.
NO_OVERHEAD = Overhead()


@dataclass(frozen=True)
class ProgramEnd:
    """How a program ended: see `Ending.returncode`, and whether the engine saw memory run out."""

    returncode: int
    oom: bool = False


@dataclass(frozen=True)
class Belongings:
    """What is made for one box on this host.

    Attributes:
        user: of its program.
        workspace, group: where this host makes them.
    """

    user: BoxUser
    workspace: Workspace | None
    group: Cgroup | None

    def release(self) -> None:
        """Give up all of it; what is left in the cgroup is killed."""
        if self.group is not None:
            with contextlib.suppress(OSError):  # the reaper tries again
                self.group.remove()
        if self.workspace is not None:
            self.workspace.close()
        self.user.close()


class DockerBox:
    """A box that waits for a job, then runs it.

    Args:
        engine: that runs the container.
        container: its id.
        attached: its stream, attached before it was started.
        own: the box's; `close` gives it up.
        limits: those it was made with.
        overhead: added to a job's limits.
    """

    def __init__(
        self,
        engine: DockerEngine,
        container: str,
        attached: Attached,
        own: Belongings,
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
        self._told = b""
        self._words = CappedStream(_WORDS)
        self._out = Withheld(_ENDED, _ENDED_BYTES, self._words.feed)
        attached.direct({1: self._on_stdout, 2: self._words.feed})
        if workspace is not None and workspace.pipes:
            self._readers["marks"] = FifoReader(workspace.pipes["marks"], self._on_marks)

    @property
    def _piped(self) -> bool:
        return bool(self._readers)

    @property
    def _returncode(self) -> int | None:
        if len(self._told) < _ENDED_BYTES:
            return None
        return int.from_bytes(self._told[-2:], "big", signed=True)

    async def ready(self) -> None:
        """Wait until the agent waits for a job.

        Raises:
            BoxGone: the box died meanwhile, without a word.
            RuntimeFailure: the agent fails, or takes too long.
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
            words = self._words.text().strip().splitlines()
            if self._attached.ended.done() and not words:
                raise BoxGone(self.container)
            said = words[-1] if words else f"no word in {_READY_SECONDS:.0f} s"
            raise RuntimeFailure(f"the box did not get ready: {said}")
        if self.workspace is not None:
            self.workspace.hide_pipes()
        if self.seen_group is not None:
            try:
                self._network = NetworkWatch(self.seen_group.pids()[0])
            except (OSError, IndexError):
                raise BoxGone(self.container) from None

    @property
    def seen_group(self) -> Cgroup | None:
        """The group whose processes are the program's: of gVisor's box one sees gVisor alone."""
        return self.own_group if self.overhead == NO_OVERHEAD else None

    def network_attempts(self) -> int | None:
        """How often programs tried to reach beyond the box; None where that cannot be told."""
        return None if self._network is None else self._network.attempts()

    async def broken(self) -> None:
        """See `pool.Box.broken`: a box that waits has no other way to end."""
        await asyncio.wait({self._attached.ended})

    def cost_bytes(self) -> int | None:
        """See `sandbox_host.runtimes.pool.pool.Box.cost_bytes`."""
        used = self.group.usage().peak_memory_bytes if self.group is not None else None
        return None if used is None else used + _SHIM_BYTES

    def memory_was_full(self) -> bool:
        """Whether the processes' memory once reached the limit."""
        peak = self.group.usage().peak_memory_bytes if self.group is not None else None
        return (peak or 0) >= self._limits.memory_bytes + self.overhead.memory_bytes

    def fit(self, limits: JobLimits) -> None:
        """Give the box a job's own limits.

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
        """Lay the files and have the agent start the program, whose output goes to the sinks.

        Raises:
            BoxGone: the box died before the program started.
            OSError: the kernel refuses a file or a limit.
            RuntimeFailure: the agent does not read.
        """
        self.fit(job.job.limits)
        if self.workspace is not None:
            self.workspace.lay(job)
        if self._piped and self.workspace is not None:
            for name, sink in (("out", out), ("err", err)):
                self._readers[name] = FifoReader(self.workspace.pipes[name], sink)
        else:
            self._out = Withheld(_ENDED, _ENDED_BYTES, out)
            self._attached.direct({1: self._on_stdout, 2: err})
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._attached.send(
                    agent_header(job, files_are_laid=self.workspace is not None)
                )
        except TimeoutError:
            raise RuntimeFailure(f"the box took no job in {_READY_SECONDS:.0f} s") from None
        except OSError:
            raise BoxGone(self.container) from None

    async def ended(self) -> ProgramEnd:
        """Wait for the program's end, and for the last of its output.

        Raises:
            BoxGone: the box died before the program started.
            InvalidJob: its kernel cannot take the files' names.
            RuntimeFailure: nobody knows how it ended.
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
            number = ended.status - _NOT_LAID
            refused = OSError(number, os.strerror(max(0, number)))
            raise refused_for_good(refused, "files") or BoxGone(self.container)
        if not self._piped:
            self._take_end(ended)
        if self._returncode is not None:
            return ProgramEnd(self._returncode, ended.oom)
        if not (ended.oom or self.memory_was_full()):
            await self._blame(ended, before)
        return ProgramEnd(KILLED, ended.oom)

    def _take_end(self, ended: Ended) -> None:
        """Tell the agent's last mark from the program's output, once the stream is over."""
        if ended.status == 0:
            self._told = self._out.rest
        else:
            self._out.release()

    async def _blame(self, ended: Ended, before: float) -> None:
        """Tell whose doing it is that the agent has died under a program that ran.

        Args:
            ended: how the box ended.
            before: seconds by which the engine's stream ended before it.

        Raises:
            RuntimeFailure: the engine's, or of somebody who told the engine to.
        """
        lost = before > _ENGINE_LOST_SECONDS
        if lost or ended.status == _GAVE_UP or await self._engine.was_killed(self.container):
            raise RuntimeFailure("the box was killed from outside")
        # The program should not be able to. Whatever way it found: to run it again would not help.
        security_event("agent_killed", "a program ended its box", box=self.container)

    async def kill(self) -> None:
        """Kill all that runs in the box, and wait until it is dead.

        Raises:
            RuntimeFailure: it does not die.
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
        if self._out.rest:  # the program's output, or the agent's word, had it just ended
            try:
                self._take_end(await self._engine.ended(self.container))
            except RuntimeFailure:
                self._out.release()

    @staticmethod
    async def _kill_all(group: Cgroup) -> None:
        """Kill without the engine: at once, and also when there is none any more."""
        give_up = time.monotonic() + _DEAD_SECONDS
        while (pids := group.pids()) and time.monotonic() < give_up:
            for pid in pids:  # the first is the agent, and all others die with it
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Remove the container and all that was made for it; may be called in any state.

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
        """The attached stdout: before the program's own come the agent's two marks."""
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
                self._words.feed(mark)
        elif not self._started.is_set():
            self._started.set()
        else:
            self._told += mark
            if self._returncode is not None:
                self._readers["marks"].close()


def group_limits(limits: JobLimits, overhead: Overhead) -> GroupLimits:
    """Limits of the group above a container, which hold whatever the container's own allow."""
    return GroupLimits(
        memory_bytes=limits.memory_bytes + overhead.memory_bytes,
        processes=limits.processes + overhead.processes,
        cpus=CPUS,
    )
