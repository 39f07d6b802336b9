"""What the application asks of the sandbox host, and what it gets back.

Both travel as the ``data`` of a CloudEvents envelope (`domain.messaging.envelope`):
``JOB_TYPE`` on the queue ``sandbox-jobs``, ``RESULT_TYPE`` on ``sandbox-results``. A result is the
host's own record; nothing in it is parsed from what the program printed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

JOB_TYPE = "qlp.sandbox.job"
RESULT_TYPE = "qlp.sandbox.result"

#: Largest stdout or stderr a result may carry, in bytes of UTF-8 *as encoded in JSON*, so that a
#: result with both streams full still fits one Service Bus message.
MAX_STREAM_BYTES = 96 * 1024

DEFAULT_WALL_SECONDS = 10.0

RelativePath = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=255,
        pattern=r"^(?!/)(?!.*(?:^|/)\.{1,2}(?:/|\Z))(?!.*//)[^\x00-\x1f\x7f\\]+(?<!/)\Z",
    ),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", regex_engine="python-re"
    )


class JobFile(_Frozen):
    """A file laid into the program's working directory before it starts."""

    path: RelativePath
    content: str
    encoding: Literal["utf-8", "base64"] = "utf-8"


class JobLimits(_Frozen):
    """Resolved limits of one run; the host may refuse what is over its own ceilings.

    Attributes:
        wall_seconds: wall-clock time from the program's start to its kill.
        memory_bytes: memory of all the program's processes together, swap included.
        output_bytes: bytes of stdout and of stderr kept; each stream is drained past it.
        processes: processes and threads alive at once.
        disk_bytes: size of the writable workspace.
    """

    wall_seconds: float = Field(default=DEFAULT_WALL_SECONDS, gt=0, le=300)
    memory_bytes: int = Field(default=256 * 1024**2, ge=16 * 1024**2, le=2 * 1024**3)
    output_bytes: int = Field(default=64 * 1024, ge=0, le=MAX_STREAM_BYTES)
    processes: int = Field(default=64, ge=1, le=512)
    disk_bytes: int = Field(default=64 * 1024**2, ge=1024**2, le=1024**3)


class SandboxJob(_Frozen):
    """One program to run once.

    Attributes:
        run_id: identifies the run; a redelivered job has the same one, and so has its result.
        language: ``python`` or ``shell``.
        files: laid under the working directory; ``entrypoint`` names one of them.
        attempt: 1 for the first try of the intent, counted up at each retry.
    """

    run_id: UUID
    intent_id: UUID
    attempt: int = Field(default=1, ge=1)
    language: Literal["python", "shell"]
    files: tuple[JobFile, ...] = Field(min_length=1, max_length=64)
    entrypoint: RelativePath
    args: tuple[str, ...] = Field(default=(), max_length=64)
    stdin: str = ""
    limits: JobLimits = JobLimits()


class Verdict(StrEnum):
    """How a run ended, as the host decided it."""

    SUCCEEDED = "succeeded"
    EXITED = "exited"  # a non-zero exit code
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"  # killed because it kept writing far past the cap
    INVALID_JOB = "invalid_job"  # refused before it ran; a retry cannot help
    INFRASTRUCTURE_ERROR = "infrastructure_error"  # the host failed, not the program; retryable


class Usage(_Frozen):
    """What one run used; None where the runtime cannot measure it.

    Attributes:
        wall_ms: from start to end of the program, milliseconds.
        cpu_user_ms: CPU time in user mode of all its processes, milliseconds.
        cpu_system_ms: CPU time in kernel mode of all its processes, milliseconds.
        peak_memory_bytes: highest memory use, bytes.
    """

    wall_ms: float = Field(ge=0)
    cpu_user_ms: float | None = Field(default=None, ge=0)
    cpu_system_ms: float | None = Field(default=None, ge=0)
    peak_memory_bytes: int | None = Field(default=None, ge=0)


class SandboxResult(_Frozen):
    """The outcome of one run.

    Attributes:
        exit_code: of the program, where it exited.
        signal: that ended the program, where one did.
        stdout, stderr: valid UTF-8 without NUL (replaced by U+FFFD), cut at the job's limit.
        stdout_bytes, stderr_bytes: how much the program wrote, cut or not.
        runtime: which runtime ran it, for example ``docker`` or ``bubblewrap``.
        image: digest of the image, where there is one.
        error: for ``infrastructure_error`` and ``invalid_job``: what went wrong and what helps.
        queued_ms: from the job's arrival at the host to the program's start, milliseconds.
    """

    run_id: UUID
    intent_id: UUID
    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    stdout_bytes: int = Field(default=0, ge=0)
    stderr_bytes: int = Field(default=0, ge=0)
    usage: Usage | None = None
    runtime: str = ""
    image: str | None = None
    error: str | None = None
    queued_ms: float | None = Field(default=None, ge=0)
