"""The interface of the runtimes, and what they share: folders, limits, the environment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol, runtime_checkable

from domain.contracts.job import Behaviour, SandboxResult, Usage
from domain.contracts.languages import LANGUAGES
from sandbox_host.run.artifacts import Collected
from sandbox_host.run.job import InvalidJob, PreparedJob, refused_for_good
from sandbox_host.run.output import CappedStream
from sandbox_host.run.verdicts import Ending, judge, limits_hit

#: A box's writable space: the program's working directory and its ``/tmp`` share one size-limited
#: tmpfs.
BOX = "/box"
WORKSPACE = f"{BOX}/work"
TEMPORARY = f"{BOX}/tmp"  # noqa: S108 - inside the box

#: Where a program puts its artifacts. The path is also in its environment, as ``OUT_DIR``, since a
#: runtime that cannot mount has the folder elsewhere. It counts against the size of `BOX`.
OUTPUT = "/out"

#: The program's user and group ID inside the box.
BOX_UID = 1000

#: Size of ``/dev/shm`` in a box, bytes.
SHM_BYTES = 16 * 1024**2

#: Maximum open files per process.
MAX_OPEN_FILES = 1024

#: CPUs one program may keep busy.
CPUS = 1.0

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "USER": "sandbox",
    "LANG": "C.UTF-8",
}


def environment_of(
    job: PreparedJob,
    workspace: str = WORKSPACE,
    temporary: str = TEMPORARY,
    output: str = OUTPUT,
) -> dict[str, str]:
    """The program's whole environment, given the box's folders.

    ``TMPDIR`` is not ``/tmp``, although both are one folder: gVisor mounts one of its own there.
    """
    return {
        **_ENVIRONMENT,
        "HOME": workspace,
        "PWD": workspace,
        "TMPDIR": temporary,
        "OUT_DIR": output,
        **dict(LANGUAGES[job.job.language].environment),
        **job.job.environment,
    }


class RuntimeFailure(Exception):
    """The runtime could not run a job, through no fault of the program; the message says why."""


class TooSlow(RuntimeFailure):
    """Something was not done in time, as on a machine that is busy with programs."""


def files_refused(error: OSError) -> InvalidJob | RuntimeFailure:
    """The exception for files that cannot be written: the job's fault, or the machine's."""
    return refused_for_good(error, "files") or RuntimeFailure(f"write the job's files: {error}")


class BoxGone(RuntimeFailure):
    """A box died before the job's program started in it; another box can take the job."""


@dataclass(frozen=True)
class Readiness:
    """Whether a runtime can run jobs, as its canary showed.

    Attributes:
        ready: jobs may be sent.
        reason: what was found, for a person.
        fix: what to do if it is not ready; empty otherwise.
        details: for ``/health``: how limits are enforced, whether seccomp and AppArmor are on.
        languages: those whose programs can run here, if it is ready.
        isolation: what separates a program from this host, in a few words.
        local: programs use this machine's memory.
    """

    ready: bool
    reason: str
    fix: str = ""
    details: dict[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    isolation: str = ""
    local: bool = True


@dataclass
class RunControl:
    """Controls and observes a run in progress.

    Attributes:
        kill: set it to have the program killed on request.
        on_output: called with a stream's name and its next bytes, as they come; must not block.
    """

    kill: asyncio.Event = field(default_factory=asyncio.Event)
    on_output: Callable[[Literal["stdout", "stderr"], bytes], None] | None = None


@dataclass(frozen=True)
class RunResult:
    """A finished run: its result, and the artifacts' contents that do not fit into it."""

    result: SandboxResult
    collected: Collected = field(default_factory=Collected)


class Runtime(Protocol):
    """Runs one program at a time per call, each in a fresh box; calls may overlap."""

    @property
    def name(self) -> str:
        """The name used in results and in ``QLP_SANDBOX_RUNTIMES``."""
        ...

    async def preflight(self) -> Readiness:
        """Find out whether jobs can run, by running one; never raises."""
        ...

    async def run(self, job: PreparedJob, control: RunControl | None = None) -> RunResult:
        """Run ``job`` to its end; if the call is cancelled, it kills the program first.

        Raises:
            InvalidJob: this runtime can never run such a job; it says what to change.
            RuntimeFailure: the host or the engine failed.
        """
        ...

    async def reap(self) -> int:
        """Remove what dead hosts have left; the number of boxes removed."""
        ...

    async def aclose(self) -> None:
        """Release the runtime's own resources."""
        ...


@runtime_checkable
class Pooled(Runtime, Protocol):
    """A runtime that keeps a pool of waiting boxes."""

    def pool_state(self) -> dict[str, object]:
        """The waiting boxes by language, and their cost, for ``/health``; returns at once."""
        ...

    def tell_of_trouble(self, suspect: Callable[[], None]) -> None:
        """Have ``suspect`` called when a box for the pool cannot be made."""
        ...


@dataclass
class RunRecord:
    """The host's own record of one run, from which the result is made."""

    job: PreparedJob
    runtime: str
    stdout: CappedStream
    stderr: CappedStream
    image: str | None = None
    warm: bool = False
    behaviour: Behaviour = field(default_factory=Behaviour)
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls, job: PreparedJob, runtime: str, control: RunControl, image: str | None = None
    ) -> RunRecord:
        """An empty record for ``job``; its streams also feed ``control``."""
        cap, tap = job.job.limits.output_bytes, control.on_output
        stdout = CappedStream(cap, tap and partial(tap, "stdout"))
        stderr = CappedStream(cap, tap and partial(tap, "stderr"))
        return cls(job, runtime, stdout, stderr, image)

    def result(self, ending: Ending, usage: Usage, collected: Collected) -> RunResult:
        """The result of a run with this ending."""
        stdout, stderr = self.stdout.text(), self.stderr.text()
        result = SandboxResult(
            run_id=self.job.job.run_id,
            intent_id=self.job.job.intent_id,
            verdict=judge(ending),
            exit_code=ending.exit_code,
            signal=ending.signal,
            stdout=stdout,
            stderr=stderr,
            stdout_truncated=self.stdout.truncated,
            stderr_truncated=self.stderr.truncated,
            stdout_bytes=self.stdout.total,
            stderr_bytes=self.stderr.total,
            usage=usage.model_copy(update={"output_bytes": self.stdout.total + self.stderr.total}),
            runtime=self.runtime,
            image=self.image,
            queued_ms=max(0.0, (self.started - self.job.arrived) * 1e3),
            warm=self.warm,
            artifacts=collected.artifacts,
            skipped_artifacts=collected.skipped,
            more_skipped_artifacts=collected.more_skipped,
            behaviour=self.behaviour.model_copy(update={"limits_hit": limits_hit(ending)}),
        )
        return RunResult(result, collected)
