"""Talks to the launcher of confined programs, and to the supervisor of each program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sandbox_host.linux.pipes import PipeReader, PipeWriter
from sandbox_host.linux.processes import sealed_file
from sandbox_host.run.job import refused_for_good
from sandbox_host.run.output import CappedStream, stopping_floods
from sandbox_host.run.verdicts import Kill
from sandbox_host.runtimes.base import RuntimeFailure, TooSlow
from sandbox_host.runtimes.confined import launcher as confined_launcher

#: The program that `Launcher` executes.
LAUNCHER_SOURCE = Path(confined_launcher.__file__).read_text()

#: Seconds in which the launcher must report what the kernel offers, and a supervisor that its
#: program has started or, after a kill, has ended.
_ANSWER_SECONDS = 10.0


class Launcher:
    """The process that runs `launcher`.

    Args:
        python: the interpreter that executes it.

    Attributes:
        landlock: version of the kernel's Landlock interface; 0 if there is none.

    Raises:
        RuntimeFailure: it did not start.
    """

    def __init__(self, python: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [python, "-I", "-S", "-c", LAUNCHER_SOURCE],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        self._socket.settimeout(_ANSWER_SECONDS)
        try:
            self.landlock = int(json.loads(self._socket.recv(4096))["landlock"])
        except (OSError, ValueError) as error:
            self.close()
            raise RuntimeFailure(f"the program launcher did not start: {error}") from None

    def start(self, request: dict[str, Any], descriptors: list[int]) -> None:
        """Request the start of a program; the descriptors are its stdio and the run's socket.

        Raises:
            RuntimeFailure: the launcher is gone.
        """
        file = sealed_file("request", json.dumps(request).encode())
        try:
            socket.send_fds(self._socket, [b"+"], [file, *descriptors])
        except OSError as error:
            raise RuntimeFailure(f"the program launcher is gone: {error}") from None
        finally:
            os.close(file)

    def close(self) -> None:
        """End the launcher; running programs continue until their own sockets are closed."""
        self._socket.close()
        self._process.wait()


@dataclass(frozen=True)
class ProgramEnd:
    """A supervisor's report at the end: the return code (see `Ending`) and CPU times."""

    returncode: int
    user_ms: float
    system_ms: float


class ConfinedProcess:
    """A program that is being started, or runs; construct it on the event loop's thread."""

    def __init__(
        self,
        launcher: Launcher,
        request: dict[str, Any],
        streams: tuple[CappedStream, CappedStream],
    ) -> None:
        self.kill_reason: Kill | None = None
        self._partial_line = b""
        self._reported: dict[str, Any] = {}
        self._started = asyncio.Event()
        with contextlib.ExitStack() as theirs:

            def pipe(*, inward: bool) -> tuple[int, int]:
                read, write = os.pipe()
                # The program has another user ID and may open it by a name, such as /dev/stdin.
                os.fchmod(read, 0o604 if inward else 0o602)
                ours, other = (write, read) if inward else (read, write)
                theirs.callback(os.close, other)
                return ours, other

            stdin, stdin_r = pipe(inward=True)
            stdout, stdout_w = pipe(inward=False)
            stderr, stderr_w = pipe(inward=False)
            mine, other = socket.socketpair()
            theirs.callback(other.close)
            self._control = mine.detach()
            self._stdin = PipeWriter(stdin)
            kill = partial(self.kill, Kill.OUTPUT)
            self._readers = [
                PipeReader(stdout, stopping_floods(streams[0], kill)),
                PipeReader(stderr, stopping_floods(streams[1], kill)),
                PipeReader(self._control, self._on_report),
            ]
            try:
                launcher.start(request, [stdin_r, stdout_w, stderr_w, other.fileno()])
            except BaseException:
                self._close()
                raise

    def _on_report(self, data: bytes) -> None:
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            self._reported |= json.loads(line)
        self._started.set()

    async def started(self, stdin: bytes) -> int:
        """Wait until the program has started, and send it its input; the PID of its supervisor.

        Raises:
            InvalidJob: the kernel cannot accept its arguments.
            RuntimeFailure: it could not be started.
        """
        ended = asyncio.ensure_future(self._readers[2].ended.wait())
        starting = asyncio.ensure_future(self._started.wait())
        try:
            await asyncio.wait(
                {ended, starting}, timeout=_ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ended.cancel()
            starting.cancel()
        if "pid" not in self._reported:
            why = str(self._reported.get("error", "the supervisor has not said why"))
            refused = OSError(self._reported.get("errno") or 0, why)
            said = "error" in self._reported or self._readers[2].ended.is_set()
            failure = RuntimeFailure if said else TooSlow
            raise refused_for_good(refused, "args") or failure(
                f"the program was not started: {why}"
            )
        self._stdin.send(stdin)
        return int(self._reported["pid"])

    def kill(self, reason: Kill | None = None) -> None:
        """Have the program and all it has started killed; the first reason is recorded."""
        if self._readers[2].ended.is_set():
            return
        self.kill_reason = self.kill_reason or reason
        with contextlib.suppress(OSError):
            os.write(self._control, b"-")

    async def wait(self) -> ProgramEnd:
        """Wait until none of the program's processes runs any more.

        Raises:
            RuntimeFailure: the supervisor ended without a report.
        """
        await asyncio.gather(*(reader.ended.wait() for reader in self._readers))
        report = self._reported
        if "returncode" not in report:
            raise RuntimeFailure(f"the supervisor was lost: {report.get('error', 'no report')}")
        return ProgramEnd(
            int(report["returncode"]), float(report["user_ms"]), float(report["system_ms"])
        )

    async def aclose(self) -> None:
        """Kill what still runs, wait for its end, and close all descriptors.

        Raises:
            RuntimeFailure: a process did not end; it may still run.
        """
        self.kill()
        try:
            await asyncio.wait_for(self._readers[2].ended.wait(), _ANSWER_SECONDS)
        except TimeoutError:
            raise RuntimeFailure("a killed program did not end") from None
        finally:
            self._close()

    def _close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._stdin.close()
