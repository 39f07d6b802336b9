"""One ``bwrap`` process: starts it, starts its program later, reads its output, waits for its end.

The box's shell waits for a line on standard input that says what to execute, and ends if none comes
(`sandbox_host.runtimes.bubblewrap.shell`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sandbox_host.linux.pipes import PipeReader, PipeWriter
from sandbox_host.linux.processes import descendants, returncode_of
from sandbox_host.run.output import CappedStream
from sandbox_host.run.verdicts import Kill
from sandbox_host.runtimes.base import BoxGone, RuntimeFailure
from sandbox_host.runtimes.bubblewrap.ending import end_soon
from sandbox_host.runtimes.bubblewrap.output import BoxOutput

_STATUS_LIMIT = 16 * 1024

#: Seconds to wait for ``bwrap`` to report its box's PID 1, which takes milliseconds.
_LEARN_SECONDS = 5.0


#: When a box that is to be killed gets the signal at the latest, seconds.
_LATEST_SECONDS = 1.0

#: Not the loop's own threads: these may all be reading about processes that get no CPU.
_ENDING = ThreadPoolExecutor(max_workers=16, thread_name_prefix="end-box")


class BwrapProcess:
    """A started box that waits for its program.

    Construct it on the event loop's thread: ``--die-with-parent`` is bound to the *thread* that
    forked (PR_SET_PDEATHSIG, prctl(2)), and a thread of a thread pool may end before the host does.
    """

    def __init__(
        self,
        arguments: Callable[[int], list[str]],
        inherited: Sequence[int],
    ) -> None:
        """Start ``bwrap``.

        Args:
            arguments: gives the command for the status pipe's descriptor.
            inherited: further descriptors that the command names.
        """
        #: The PID of ``bwrap``, which is outside the box.
        self.pid = -1
        self.kill_reason: Kill | None = None
        #: Called, in a thread, when the box is being killed or the program has ended.
        self.before_end: list[Callable[[], object]] = []
        self._ending: asyncio.Future[None] | None = None
        self._init: int | None = None
        self._init_pid = -1
        self._init_ended = asyncio.Event()
        self._program: int | None = None
        self._status = b""
        self._status_line = asyncio.Event()
        self._exited = asyncio.Event()
        self._output = BoxOutput(lambda: self.kill(Kill.OUTPUT))
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as child_ends:
            ends = [self._pipe(child_ends, child_writes=True) for _ in range(3)]
            (out_r, out_w), (err_r, err_w), (status_r, status_w) = ends
            in_r, in_w = self._pipe(child_ends, child_writes=False)
            try:
                self._process = subprocess.Popen(
                    arguments(status_w),
                    stdin=in_r,
                    stdout=out_w,
                    stderr=err_w,
                    pass_fds=[*inherited, status_w],
                    env={},
                    cwd="/",
                    umask=0o022,
                )
            except BaseException:
                for descriptor in (out_r, err_r, status_r, in_w):
                    os.close(descriptor)
                raise
        self.pid = self._process.pid
        self._outer = os.pidfd_open(self.pid)
        self._loop.add_reader(self._outer, self._on_exit)
        self._stdin = PipeWriter(in_w)
        self._readers = [
            PipeReader(out_r, self._output.on_stdout),
            PipeReader(err_r, self._output.on_stderr),
            PipeReader(status_r, self._on_status),
        ]

    @staticmethod
    def _pipe(stack: contextlib.ExitStack, *, child_writes: bool) -> tuple[int, int]:
        """A pipe; this process's copy of the child's end is closed when ``stack`` exits."""
        read, write = os.pipe()
        # The program has another user ID and may open the pipe by a name, such as /dev/stdin.
        os.fchmod(read, 0o602 if child_writes else 0o604)
        stack.callback(os.close, write if child_writes else read)
        return read, write

    def _on_status(self, data: bytes) -> None:
        self._status = (self._status + data)[:_STATUS_LIMIT]
        if b"\n" in self._status:
            self._status_line.set()

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._outer)
        self._exited.set()
        self._status_line.set()
        self._output.end()
        # bwrap ends when the program has, and PID 1 by its parent-death signal, but not before it
        # gets a CPU.
        self._end()

    def _on_init_end(self) -> None:
        if self._init is not None:
            self._loop.remove_reader(self._init)
        self._init_ended.set()

    async def init_pid(self) -> int:
        """The box's PID 1, in this host's PID namespace; call it before the program starts.

        Raises:
            RuntimeFailure: ``bwrap`` ended before it had set up the box.
        """
        await self._status_line.wait()
        pid = self._statuses().get("child-pid")
        if not isinstance(pid, int):
            raise RuntimeFailure("bwrap ended before the box was set up")
        # Opened before the program runs, so that the PID cannot have been reused.
        self._init, self._init_pid = os.pidfd_open(pid), pid
        self._loop.add_reader(self._init, self._on_init_end)
        return pid

    async def ready(self) -> None:
        """Wait until the box is set up and its shell waits.

        Raises:
            RuntimeFailure: ``bwrap`` ended before that.
        """
        await self._output.ready.wait()
        if not self._output.was_ready:
            raise RuntimeFailure("bwrap ended before the box was set up")
        # The shell will become the program; this descriptor lets us ask how it ended.
        with contextlib.suppress(ProcessLookupError, StopIteration):
            self._program = os.pidfd_open(next(descendants(self._init_pid)))

    async def ended(self) -> None:
        """Wait until ``bwrap`` has ended."""
        await self._exited.wait()

    async def start(
        self, line: bytes, stdin: bytes, streams: tuple[CappedStream, CappedStream]
    ) -> None:
        """Have the program started; returns when it starts.

        Args:
            line: for the box's shell.
            stdin: for the program.
            streams: take its stdout and stderr.

        Raises:
            BoxGone: the box ended before that.
        """
        output = self._output
        output.direct(*streams)
        self._stdin.send(line + stdin)
        await output.started.wait()
        if not output.has_started:
            await self._readers[0].ended.wait()  # the mark may still be in the pipe
        if not output.has_started:
            raise BoxGone(f"the box ended: {self.last_message()}")

    def last_message(self) -> str:
        """The last message of ``bwrap`` or the shell, in a box whose program has not started."""
        return self._output.last_message()

    def kill(self, reason: Kill | None = None) -> None:
        """Kill the box and all in it; the first reason given is the one recorded.

        If the program has ended by itself, only what it has left is killed, and no reason recorded.
        """
        if not self._exited.is_set():
            if self.kill_reason is None:
                self.kill_reason = reason
        elif self._init_ended.is_set():
            return
        self._end()

    def _end(self) -> None:
        if self._init is None:
            self._signal()
        # Reading about processes that hardly get a CPU takes time, which the loop does not have.
        elif self._ending is None or self._ending.done():
            self._ending = self._loop.run_in_executor(
                _ENDING, end_soon, self._init_pid, self._init, self._kill
            )
            self._loop.call_later(_LATEST_SECONDS, self._signal)  # should all threads be busy

    def _signal(self) -> None:
        for descriptor in (self._init, self._outer):
            if descriptor is not None and descriptor >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def _kill(self) -> None:
        self._signal()
        for call in self.before_end:
            call()

    async def wait(self) -> tuple[int, resource.struct_rusage | None]:
        """Wait for the end of the box and of its output.

        Returns:
            The program's return code (see `Ending.returncode`), and the usage of the box's PID 1
            and the processes it waited for. The usage is None unless this host adopts orphans
            (`sandbox_host.linux.processes.adopt_orphans`).
        """
        await self._exited.wait()
        code = self._process.wait()  # its pidfd is readable: returns at once
        usage = None
        if self._init is not None:
            # bwrap ends when the program has; PID 1, and daemons with it, may still run for a
            # moment, until PID 1's parent-death signal ends them.
            await self._init_ended.wait()
            if self._ending is not None:
                await asyncio.shield(self._ending)
            usage = _reap_adopted(self._init_pid)
        await asyncio.gather(*(reader.ended.wait() for reader in self._readers))
        return self._returncode(code), usage

    def _returncode(self, code: int) -> int:
        """The program's return code from the kernel, or else from ``bwrap``.

        ``bwrap`` encodes signals as shells do, so a program's exit code from 129 to 192 is then
        taken for a signal.
        """
        known = None if self._program is None else returncode_of(self._program)
        if known is not None:
            return known
        return 128 - code if 128 < code <= 128 + signal.SIGRTMAX else code

    @property
    def program_ran(self) -> bool:
        """Whether ``bwrap`` reported the program's exit; known after `wait`."""
        return "exit-code" in self._statuses()

    async def aclose(self) -> None:
        """Kill the box if it still runs, reap it, and close all descriptors."""
        if self._process.returncode is None or not self._has_ended:
            await self._learn_init()
            self.kill()
            await self.wait()
        if self._init is not None:
            _reap_adopted(self._init_pid)  # if `wait` was cancelled before it could
        for reader in self._readers:
            reader.close()
        self._stdin.close()
        for watched in (self._init, self._outer):
            if watched is not None and watched >= 0:
                self._loop.remove_reader(watched)
        for descriptor in (self._init, self._outer, self._program):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._init, self._outer, self._program = None, -1, None

    @property
    def _has_ended(self) -> bool:
        """Whether nothing of the box is left, so far as it is known."""
        return self._init is None or (
            self._init_ended.is_set() and (self._ending is None or self._ending.done())
        )

    async def _learn_init(self) -> None:
        """Learn the box's PID 1 before a kill: during setup it does not die with ``bwrap``.

        If ``bwrap`` does not report it in time, there is no PID 1 yet.
        """
        if self._init is None:
            with contextlib.suppress(TimeoutError, RuntimeFailure, ProcessLookupError):
                await asyncio.wait_for(self.init_pid(), _LEARN_SECONDS)

    def _statuses(self) -> dict[str, object]:
        """The JSON documents of ``--json-status-fd``, one per line, merged into one mapping."""
        merged: dict[str, object] = {}
        for line in self._status.splitlines():
            with contextlib.suppress(ValueError):
                merged |= json.loads(line)
        return merged


def _reap_adopted(pid: int) -> resource.struct_rusage | None:
    """Reap an ended process that became this host's child; its usage, or None if it did not."""
    try:
        reaped, _, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return usage if reaped == pid else None
