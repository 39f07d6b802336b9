"""One running ``bwrap``: start it, hold its program back, read its output, wait for its end.

The box's own shell holds the program back: it waits for a line on the program's standard input,
which says what to execute, and ends where none comes (`sandbox_host.runtimes.bubblewrap.shell`).
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

from sandbox_host.linux.pipes import PipeReader, PipeWriter
from sandbox_host.linux.processes import returncode_of
from sandbox_host.linux.watchdog import descendants
from sandbox_host.run.output import CappedStream
from sandbox_host.run.verdicts import Kill
from sandbox_host.runtimes.base import BoxGone, RuntimeFailure
from sandbox_host.runtimes.bubblewrap.output import BoxOutput

_STATUS_LIMIT = 16 * 1024

#: Seconds in which ``bwrap`` says which process is the PID 1 of its box; it takes milliseconds.
_LEARN_SECONDS = 5.0


class BwrapProcess:
    """A started box that waits for its program.

    Construct it on the event loop's own thread: ``--die-with-parent`` follows the *thread* that
    forked (PR_SET_PDEATHSIG, prctl(2)), and a pool's thread may end before the host does.
    """

    def __init__(
        self,
        arguments: Callable[[int], list[str]],
        inherited: Sequence[int],
    ) -> None:
        """Start.

        Args:
            arguments: the command, given the number of the status pipe.
            inherited: further descriptors the command names.
        """
        #: Of ``bwrap``, which is outside of the box.
        self.pid = -1
        self.kill_reason: Kill | None = None
        #: Called once, right before the host kills the box for a reason.
        self.before_kill: Callable[[], None] = lambda: None
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
        """A pipe whose child end is closed here when ``stack`` ends."""
        read, write = os.pipe()
        # The program is another user and may open it by its name, such as /dev/stdin.
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

    def _on_init_end(self) -> None:
        if self._init is not None:
            self._loop.remove_reader(self._init)
        self._init_ended.set()

    async def init_pid(self) -> int:
        """The box's PID 1 as this host sees it, while the program is still held back.

        Raises:
            RuntimeFailure: ``bwrap`` ended before it had set the box up.
        """
        await self._status_line.wait()
        pid = self._statuses().get("child-pid")
        if not isinstance(pid, int):
            raise RuntimeFailure("bwrap ended before the box was set up")
        # Held before the program runs, so that the number cannot come to mean another process.
        self._init, self._init_pid = os.pidfd_open(pid), pid
        self._loop.add_reader(self._init, self._on_init_end)
        return pid

    async def ready(self) -> None:
        """Wait until the box is as its program will see it.

        Raises:
            RuntimeFailure: ``bwrap`` ended before.
        """
        await self._output.ready.wait()
        if not self._output.was_ready:
            raise RuntimeFailure("bwrap ended before the box was set up")
        # Held while the shell waits that becomes it, so that its end can be asked for.
        with contextlib.suppress(ProcessLookupError, StopIteration):
            self._program = os.pidfd_open(next(descendants(self._init_pid)))

    async def ended(self) -> None:
        """Wait until ``bwrap`` has ended."""
        await self._exited.wait()

    async def start(
        self, line: bytes, stdin: bytes, streams: tuple[CappedStream, CappedStream]
    ) -> None:
        """Have the program started; returns when it begins.

        Args:
            line: for the box's shell.
            stdin: for the program.
            streams: where its stdout and stderr go.

        Raises:
            BoxGone: the box ended before.
        """
        output = self._output
        output.direct(*streams)
        self._stdin.send(line + stdin)
        await output.started.wait()
        if not output.has_started:
            await self._readers[0].ended.wait()  # the mark may still be in the pipe
        if not output.has_started:
            raise BoxGone(f"the box ended: {self.last_words()}")

    def last_words(self) -> str:
        """What ``bwrap`` or the shell said last, for boxes whose program has not started."""
        return self._output.last_words()

    def kill(self, reason: Kill | None = None) -> None:
        """Kill the box and all in it; the first reason given is the one recorded."""
        if self._exited.is_set():
            return
        if self.kill_reason is None:
            self.kill_reason = reason
            self.before_kill()
        for descriptor in (self._init, self._outer):
            if descriptor is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    async def wait(self) -> tuple[int, resource.struct_rusage | None]:
        """Wait for the end of the box and of its output.

        Returns:
            The program's return code, see `Ending.returncode`; and what the box's PID 1 and the
            processes it waited for used, where this host adopts orphans
            (`sandbox_host.linux.processes.adopt_orphans`).
        """
        await self._exited.wait()
        code = self._process.wait()  # its pidfd is readable: returns at once
        usage = None
        if self._init is not None:
            # bwrap reports the program's end while PID 1, and with it a daemon, may still live;
            # its parent-death signal ends both.
            await self._init_ended.wait()
            usage = _reap_adopted(self._init_pid)
        await asyncio.gather(*(reader.ended.wait() for reader in self._readers))
        return self._returncode(code), usage

    def _returncode(self, code: int) -> int:
        """The program's, as the kernel has it; else as ``bwrap`` hands it on, as shells do.

        Then a program's own exit code from 129 to 192 reads as a signal.
        """
        known = None if self._program is None else returncode_of(self._program)
        if known is not None:
            return known
        return 128 - code if 128 < code <= 128 + signal.SIGRTMAX else code

    @property
    def program_ran(self) -> bool:
        """Whether ``bwrap`` got as far as starting the program; known after `wait`."""
        return "exit-code" in self._statuses()

    async def aclose(self) -> None:
        """Make sure that nothing is left: kill, reap, close."""
        if self._process.returncode is None:
            await self._learn_init()
            self.kill()
            await self.wait()
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

    async def _learn_init(self) -> None:
        """Know the box's PID 1 before a kill: while it is set up, it does not die with ``bwrap``.

        Where ``bwrap`` has not said it in time, there is none yet.
        """
        if self._init is None:
            with contextlib.suppress(TimeoutError, RuntimeFailure, ProcessLookupError):
                await asyncio.wait_for(self.init_pid(), _LEARN_SECONDS)

    def _statuses(self) -> dict[str, object]:
        """The JSON documents of ``--json-status-fd``, one a line, as one mapping."""
        merged: dict[str, object] = {}
        for line in self._status.splitlines():
            with contextlib.suppress(ValueError):
                merged |= json.loads(line)
        return merged


def _reap_adopted(pid: int) -> resource.struct_rusage | None:
    """Usage of an ended process if it became this host's child; None where it did not."""
    try:
        reaped, _, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return usage if reaped == pid else None
