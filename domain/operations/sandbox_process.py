"""A sandbox in a process of its own, which takes jobs and gives results as JSON lines.

`domain` does not import the sandbox host; it starts ``sandbox_host.run_once``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from domain.contracts.job import SandboxJob, SandboxResult
from domain.contracts.strict_json import read_as
from domain.errors import OperationError

RuntimeName = Literal["docker", "bubblewrap"]

#: Longest line of a result, with both outputs full, bytes.
_MAX_LINE_BYTES = 1024**2

_STOP_SECONDS = 15.0
_ERROR_TAIL_BYTES = 2_000

#: All that the sandbox gets of the operator's environment, so that it sees no secrets.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "DOCKER_HOST", "XDG_RUNTIME_DIR")

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class SandboxCommand:
    """How to start a sandbox; if ``image`` is None, with the runtime's default."""

    runtime: RuntimeName
    image: str | None = None
    concurrency: int = 1

    @asynccontextmanager
    async def started(self) -> AsyncIterator[SandboxProcess]:
        """The running process; leaving the block ends it and its programs."""
        arguments = ["--runtime", self.runtime, "--concurrency", str(self.concurrency)]
        if self.image is not None:
            arguments += ["--image", self.image]
        with tempfile.TemporaryFile() as errors:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sandbox_host.run_once", *arguments),
                cwd=_ROOT,
                env={name: os.environ[name] for name in _INHERITED if name in os.environ},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_MAX_LINE_BYTES,
            )
            process = SandboxProcess(child)
            try:
                yield process
            finally:
                await process.stop()
                process.last_error = _tail(errors)


class SandboxProcess:
    """A running ``sandbox_host.run_once``."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self._stopped = False
        self.last_error = ""

    async def send(self, job: SandboxJob) -> None:
        """Send a job, waiting while the sandbox is busy; it is lost if the sandbox has ended."""
        if self._child.stdin is None:
            return
        try:
            self._child.stdin.write(job.model_dump_json(exclude_defaults=True).encode() + b"\n")
            await self._child.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return  # `check_ended` says why

    def end_of_jobs(self) -> None:
        """Say that there are no more jobs: the sandbox ends once it has answered all."""
        if self._child.stdin is not None:
            self._child.stdin.close()

    async def results(self) -> AsyncIterator[SandboxResult]:
        """Results, in the order in which runs end, until the sandbox ends."""
        if self._child.stdout is None:
            return
        while line := await self._child.stdout.readline():
            yield read_as(SandboxResult, line)

    async def stop(self) -> None:
        """Wait for the end after the last result; without that, terminate the process."""
        if self._child.returncode is None and self._child.stdout and self._child.stdout.at_eof():
            await self._ended()
        if self._child.returncode is None:
            self._child.terminate()
            await self._ended()
        if self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    async def _ended(self) -> None:
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._child.wait()
        except TimeoutError:
            return

    def check_ended(self, unanswered: int) -> None:
        """Check how the sandbox ended; to be called after the block.

        Raises:
            OperationError: it failed, or left ``unanswered`` jobs.
        """
        if self._child.returncode or unanswered:
            reason = self.last_error or f"its exit code is {self._child.returncode}"
            raise OperationError(f"the sandbox did not run {unanswered} programs: {reason}")


def _tail(errors: IO[bytes]) -> str:
    """The last line."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _ERROR_TAIL_BYTES))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
