"""One confined program, and the process that starts them all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_host.linux.pipes import PipeReader, PipeWriter
from sandbox_host.linux.processes import sealed_file
from sandbox_host.run.job import refused_for_good
from sandbox_host.run.output import CappedStream
from sandbox_host.run.verdicts import Kill
from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.confined import launcher as confined_launcher

#: Seconds in which the launcher says what the kernel offers, and a supervisor that its program
#: runs or, once killed, does not any more.
_ANSWER_SECONDS = 10.0


class Launcher:
    """`launcher` as a process.

    Args:
        python: executes it.

    Attributes:
        landlock: version of the kernel's Landlock interface, 0 where there is none.

    Raises:
        RuntimeFailure: it did not start.
    """

    def __init__(self, python: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [python, "-I", "-S", "-c", Path(confined_launcher.__file__).read_text()],
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
            raise RuntimeFailure(f"the launcher of programs did not start: {error}") from None

    def start(self, request: dict[str, Any], descriptors: list[int]) -> None:
        """Have a program started, given its stdin, stdout, stderr and its run's own socket.

        Raises:
            RuntimeFailure: the launcher is gone.
        """
        file = sealed_file("request", json.dumps(request).encode())
        try:
            socket.send_fds(self._socket, [b"+"], [file, *descriptors])
        except OSError as error:
            raise RuntimeFailure(f"the launcher of programs is gone: {error}") from None
        finally:
            os.close(file)

    def close(self) -> None:
        """End it; programs that run go on until their own sockets are closed."""
        self._socket.close()
        self._process.wait()


@dataclass(frozen=True)
class ProgramEnd:
    """What a supervisor says at the end: see `Ending.returncode`, and CPU time."""

    returncode: int
    user_ms: float
    system_ms: float


class ConfinedProcess:
    """A program that is being started; construct it on the event loop's thread."""

    def __init__(
        self,
        launcher: Launcher,
        request: dict[str, Any],
        streams: tuple[CappedStream, CappedStream],
    ) -> None:
        self.kill_reason: Kill | None = None
        self._said = b""
        self._words: dict[str, Any] = {}
        self._started = asyncio.Event()
        with contextlib.ExitStack() as theirs:

            def pipe(*, inward: bool) -> tuple[int, int]:
                read, write = os.pipe()
                # The program is another user and may open it by its name, such as /dev/stdin.
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
            self._readers = [
                PipeReader(stdout, self._flood_guard(streams[0])),
                PipeReader(stderr, self._flood_guard(streams[1])),
                PipeReader(self._control, self._hear),
            ]
            try:
                launcher.start(request, [stdin_r, stdout_w, stderr_w, other.fileno()])
            except BaseException:
                self._close()
                raise

    def _flood_guard(self, stream: CappedStream) -> Callable[[bytes], None]:
        def sink(data: bytes) -> None:
            stream.feed(data)
            if stream.flooded:
                self.kill(Kill.OUTPUT)

        return sink

    def _hear(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            self._words |= json.loads(line)
        self._started.set()

    async def started(self, stdin: bytes) -> int:
        """Wait until the program runs, and give it its input; the pid of its supervisor.

        Raises:
            InvalidJob: the kernel cannot take its arguments.
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
        if "pid" not in self._words:
            why = str(self._words.get("error", "?"))
            refused = OSError(self._words.get("errno") or 0, why)
            raise refused_for_good(refused, "args") or RuntimeFailure(
                f"the program was not started: {why}"
            )
        self._stdin.send(stdin)
        return int(self._words["pid"])

    def kill(self, reason: Kill | None = None) -> None:
        """Have the program and all it started killed; the first reason given is recorded."""
        if self._readers[2].ended.is_set():
            return
        self.kill_reason = self.kill_reason or reason
        with contextlib.suppress(OSError):
            os.write(self._control, b"-")

    async def wait(self) -> ProgramEnd:
        """Wait until nothing of the program runs any more.

        Raises:
            RuntimeFailure: the supervisor was lost.
        """
        await asyncio.gather(*(reader.ended.wait() for reader in self._readers))
        if "returncode" not in self._words:
            raise RuntimeFailure(f"the supervisor was lost: {self._words.get('error', 'no word')}")
        words = self._words
        return ProgramEnd(
            int(words["returncode"]), float(words["user_ms"]), float(words["system_ms"])
        )

    async def aclose(self) -> None:
        """Kill what still runs, wait for its end, close.

        Raises:
            RuntimeFailure: something did not end; it may still run.
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
