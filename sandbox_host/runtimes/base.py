"""What every runtime offers the host, and what all of them share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from domain.sandbox.contract import SandboxResult, Usage, Verdict
from sandbox_host.jobs import PreparedJob
from sandbox_host.output import CappedStream
from sandbox_host.verdicts import Ending, judge

#: Where a box keeps what the program may write: its working directory and its ``/tmp`` share one
#: size-limited tmpfs.
BOX = "/box"
WORKSPACE = f"{BOX}/work"
TEMPORARY = f"{BOX}/tmp"  # noqa: S108 - inside the box

#: The program's identity inside the box.
BOX_UID = 1000

#: Size of ``/dev/shm`` in a box, bytes.
SHM_BYTES = 16 * 1024**2

#: Files and directories one box may hold; an inode costs kernel memory even when empty.
MAX_INODES = 16_384

#: Open files per process.
MAX_OPEN_FILES = 1024

#: CPUs one program may keep busy.
CPUS = 1.0

#: The program's whole environment. Unbuffered, so that output survives a kill at the deadline.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": WORKSPACE,
    "PWD": WORKSPACE,
    "TMPDIR": "/tmp",  # noqa: S108 - inside the box
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class RuntimeFailure(Exception):
    """The runtime could not run a job; the program is not to blame. The message says why."""


@dataclass(frozen=True)
class Readiness:
    """Whether a runtime can run jobs, as its own canary found.

    Attributes:
        ready: jobs may be sent.
        reason: what was found, for a person.
        fix: what to do when not ready; empty otherwise.
        details: facts for ``/health``: how limits are held, whether seccomp and AppArmor are on.
    """

    ready: bool
    reason: str
    fix: str = ""
    details: dict[str, str] = field(default_factory=dict)


class Runtime(Protocol):
    """Runs one program at a time per call, each in a fresh box; calls may overlap."""

    @property
    def name(self) -> str:
        """As it appears in results and in ``QLP_SANDBOX_RUNTIMES``."""
        ...

    async def preflight(self) -> Readiness:
        """Find out whether jobs can run, by running one. Never raises."""
        ...

    async def run(self, job: PreparedJob) -> SandboxResult:
        """Run ``job`` to its end; a cancelled call kills the program first.

        Raises:
            RuntimeFailure: the host or the engine failed.
        """
        ...

    async def reap(self) -> int:
        """Remove what hosts that died have left behind; the number of boxes removed."""
        ...

    async def aclose(self) -> None:
        """Release the runtime's own resources."""
        ...


@dataclass
class RunRecord:
    """The host's own account of one run, from which its result is made."""

    job: PreparedJob
    runtime: str
    stdout: CappedStream
    stderr: CappedStream
    image: str | None = None
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, job: PreparedJob, runtime: str, image: str | None = None) -> RunRecord:
        """An empty record for ``job``."""
        cap = job.job.limits.output_bytes
        return cls(job, runtime, CappedStream(cap), CappedStream(cap), image)

    def result(self, ending: Ending, usage: Usage) -> SandboxResult:
        """The result of a run that ended as ``ending`` says."""
        verdict = judge(ending)
        killed = verdict in (Verdict.TIMED_OUT, Verdict.OUT_OF_MEMORY, Verdict.OUTPUT_LIMIT)
        signalled = verdict is Verdict.SIGNALLED
        stdout, stderr = self.stdout.text(), self.stderr.text()
        return SandboxResult(
            run_id=self.job.job.run_id,
            intent_id=self.job.job.intent_id,
            verdict=verdict,
            exit_code=None if signalled or killed else ending.status,
            signal=ending.signal if signalled or killed else None,
            stdout=stdout,
            stderr=stderr,
            stdout_truncated=self.stdout.truncated,
            stderr_truncated=self.stderr.truncated,
            stdout_bytes=self.stdout.total,
            stderr_bytes=self.stderr.total,
            usage=usage,
            runtime=self.runtime,
            image=self.image,
            queued_ms=max(0.0, (self.started - self.job.arrived) * 1e3),
        )
