"""A child process that prints a line of JSON on standard output when it is ready."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.local.stack.config import StackError

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Child:
    """One supervised process; its standard error goes to a log file.

    It runs in a session of its own, so that Ctrl-C reaches only the stack, which then stops its
    children in order. On Linux it gets SIGTERM if the stack itself is killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        log: Path,
        stop_seconds: float,
    ) -> None:
        """Prepare it; nothing is started.

        Args:
            name: for reports.
            command: its program and arguments.
            cwd: its working directory.
            environment: its whole environment.
            log: its standard error is appended to this file.
            stop_seconds: what it takes at most to stop in order; after that it is killed.
        """
        self.name = name
        self._command = command
        self._cwd = cwd
        self._environment = environment
        self.log = log
        self._stop_seconds = stop_seconds
        self._log_start = 0
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the last start; None before the first."""
        return self._process.pid if self._process else None

    async def start(self, timeout: float) -> dict[str, Any]:
        """Start it, for the first time or again, and wait for its ready line.

        Returns:
            the JSON object in the ready line.

        Raises:
            StackError: it ended, with the last lines of its log; or there was no ready line within
                ``timeout`` seconds.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.touch(mode=0o600)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        try:
            async with asyncio.timeout(timeout):
                ready = await self._ready_line()
        except TimeoutError:
            await self.stop()
            raise StackError(
                f"{self.name} was not ready after {timeout:g} s; see {self.log}"
            ) from None
        if ready is None:
            code = await self._process.wait()
            raise StackError(f"{self.name} ended with {code}: {self.log_tail()}")
        self._drain = asyncio.create_task(self._drain_output())
        return ready

    async def _ready_line(self) -> dict[str, Any] | None:
        stdout = self._stdout()
        while line := await stdout.readline():
            try:
                ready = json.loads(line)
            except ValueError:
                continue
            if isinstance(ready, dict) and ready.get("ready"):
                return ready
        return None

    async def _drain_output(self) -> None:
        while await self._stdout().read(65536):
            continue

    def _stdout(self) -> asyncio.StreamReader:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.stdout

    def log_tail(self) -> str:
        """The last five lines that it has logged since its last start."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - 65536))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-5:]) or f"nothing was logged; see {self.log}"

    async def ended(self) -> int:
        """Wait until it ends; returns its exit code."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return await self._process.wait()

    async def kill(self) -> None:
        """End it with SIGKILL, to simulate a crash."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL if it still runs after the seconds that it may take."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self._stop_seconds):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._drain is not None:
            await self._drain
            self._drain = None


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask_for_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before prctl
            os._exit(1)

    return ask_for_signal
