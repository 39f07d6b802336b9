"""What every runtime offers the host, and what all of them share."""

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

#: Where a box keeps what the program may write: its working directory and its ``/tmp`` share one
#: size-limited tmpfs.
BOX = "/box"
WORKSPACE = f"{BOX}/work"
TEMPORARY = f"{BOX}/tmp"  # noqa: S108 - inside the box

#: Where a program leaves what it wants to hand back; also in its environment, as ``OUT_DIR``,
#: since a runtime that cannot mount has the folder elsewhere. It shares the size of `BOX`.
OUTPUT = "/out"

#: The program's identity inside the box.
BOX_UID = 1000

#: Size of ``/dev/shm`` in a box, bytes.
SHM_BYTES = 16 * 1024**2

#: Open files per process.
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
    """The program's whole environment, given where the box has its folders.

    ``TMPDIR`` is not ``/tmp``, though that is the same folder: gVisor puts one of its own there.
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
    """The runtime could not run a job; the program is not to blame. The message says why."""


def not_laid(error: OSError) -> InvalidJob | RuntimeFailure:
    """What to raise where a job's files cannot be laid out: whose fault the kernel says it is."""
    return refused_for_good(error, "files") or RuntimeFailure(f"lay the job's files: {error}")


class BoxGone(RuntimeFailure):
    """A box died before the job's program started in it; another box can take the job."""


@dataclass(frozen=True)
class Readiness:
    """Whether a runtime can run jobs, as its own canary found.

    Attributes:
        ready: jobs may be sent.
        reason: what was found, for a person.
        fix: what to do when not ready; empty otherwise.
        details: facts for ``/health``: how limits are held, whether seccomp and AppArmor are on.
        languages: those whose programs can run here, when ready.
        isolation: what stands between a program and this host, in a few words.
        local: programs take their memory from this machine.
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
    """What passes between a run in progress and those who asked for it.

    Attributes:
        kill: set to have the program killed on request.
        on_output: given the stream's name and its next bytes, as they come; must not block.
    """

    kill: asyncio.Event = field(default_factory=asyncio.Event)
    on_output: Callable[[Literal["stdout", "stderr"], bytes], None] | None = None


@dataclass(frozen=True)
class RunResult:
    """A finished run: what the message will say, and the contents that do not fit into it."""

    result: SandboxResult
    collected: Collected = field(default_factory=Collected)


class Runtime(Protocol):
    """Runs one program at a time per call, each in a fresh box; calls may overlap."""

    @property
    def name(self) -> str:
        """As it appears in results and in ``QLP_SANDBOX_RUNTIMES``."""
        ...

    async def preflight(self) -> Readiness:
        """Find out whether jobs can run, by running one. Never raises."""
        ...

    async def run(self, job: PreparedJob, control: RunControl | None = None) -> RunResult:
        """Run ``job`` to its end; a cancelled call kills the program first.

        Raises:
            InvalidJob: this runtime can never run such a job; names the field and the fix.
            RuntimeFailure: the host or the engine failed.
        """
        ...

    async def reap(self) -> int:
        """Remove what hosts that died have left behind; the number of boxes removed."""
        ...

    async def aclose(self) -> None:
        """Release the runtime's own resources."""
        ...


@runtime_checkable
class Pooled(Runtime, Protocol):
    """A runtime that keeps boxes waiting."""

    def pool_state(self) -> dict[str, object]:
        """Boxes that wait, by language, and what they cost, for ``/health``. Answers at once."""
        ...

    def tell_of_trouble(self, suspect: Callable[[], None]) -> None:
        """Have ``suspect`` called when a box cannot be made though no job asked for it."""
        ...


@dataclass
class RunRecord:
    """The host's own account of one run, from which its result is made."""

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
        """The result of a run that ended as ``ending`` says."""
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
