"""The jobs that the application sends to the sandbox host, and the results it gets back.

Both are the ``data`` of a CloudEvents envelope (`domain.contracts.envelope`):
``JOB_TYPE`` on the queue ``sandbox-jobs``, ``RESULT_TYPE`` on ``sandbox-results``. A result is the
host's own record; nothing in it is parsed from what the program printed. While a program runs, the
host also calls the application over HTTP (`domain.contracts.heartbeat`), with the job's own token.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints

from domain.contracts.validation import matching

JOB_TYPE = "qlp.sandbox.job"
RESULT_TYPE = "qlp.sandbox.result"

#: Largest stdout or stderr a result may carry, in bytes of UTF-8 *as encoded in JSON*, so that a
#: result with both streams full still fits one Service Bus message.
MAX_STREAM_BYTES = 96 * 1024

DEFAULT_WALL_SECONDS = 10.0

#: Files that are collected from a run's output folder at most, and bytes of all of them.
MAX_ARTIFACTS = 64
MAX_ARTIFACT_BYTES = 64 * 1024**2

#: Files not collected that a result names; the others are only counted.
MAX_SKIPPED = 16

#: Where a job finds artifacts of other steps: ``inputs/<step>/<name>`` in its working directory.
INPUTS_FOLDER = "inputs"

#: Inputs of a job, and bytes of all of them together.
MAX_INPUTS = 512
MAX_INPUT_BYTES = 64 * 1024**2

#: JSON values and keys in a job; one with the most inputs, files and arguments has 4,400.
MAX_JOB_NODES = 5_000

#: Bytes of artifacts inside the result; larger ones are uploaded before it (claim check).
INLINE_ARTIFACT_BYTES = 32 * 1024

#: Environment variables that a job may set. All others are reserved for the host: variables such
#: as LD_PRELOAD or NODE_OPTIONS would change what the interpreter itself does.
ENVIRONMENT_NAME = r"^(?:APP_[A-Z0-9_]{1,60}|TZ|LANG|LC_ALL|PYTHONHASHSEED|COLUMNS|LINES)\Z"

_RELATIVE = r"^(?!/)(?!.*(?:^|/)\.{1,2}(?:/|\Z))(?!.*//)[^\x00-\x1f\x7f\\]+(?<!/)\Z"

_IS_RELATIVE = matching(_RELATIVE, "must be a relative path without empty, '.' or '..' parts")

RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=255), _IS_RELATIVE]
#: ``inputs/<step>/<name>``: the name alone may have 255 characters.
InputPath = Annotated[str, StringConstraints(min_length=1, max_length=320), _IS_RELATIVE]

LanguageName = Annotated[
    str, matching(r"[a-z][a-z0-9+.-]{0,31}", "must be the lower-case name of a language")
]
EnvironmentName = Annotated[
    str, matching(ENVIRONMENT_NAME, "must be a name that a job may set: APP_…, TZ, LANG, LC_ALL, …")
]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "must be a SHA-256, 64 hexadecimal digits")]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", regex_engine="python-re"
    )


class JobFile(_Frozen):
    """A file written into the program's working directory before it starts."""

    path: RelativePath
    content: str
    encoding: Literal["utf-8", "base64"] = "utf-8"


class JobInput(_Frozen):
    """A file that the host fetches from the application, with the job's token, before the run.

    Attributes:
        path: in the program's working directory.
        size: bytes.
        sha256: of the content, hexadecimal.
    """

    path: InputPath
    size: int = Field(ge=0, le=MAX_ARTIFACT_BYTES)
    sha256: Sha256


class JobLimits(_Frozen):
    """Resolved limits of one run; the host may refuse limits above its own.

    Attributes:
        wall_seconds: wall-clock time from the program's start to its kill.
        memory_bytes: memory of all the program's processes together, swap included.
        output_bytes: bytes kept of stdout, and of stderr; what exceeds it is read and dropped.
        processes: processes and threads alive at once.
        disk_bytes: size of everything writable: workspace, ``/tmp`` and the output folder.
        artifact_bytes: bytes of all collected artifacts together.
    """

    wall_seconds: float = Field(default=DEFAULT_WALL_SECONDS, gt=0, le=300)
    memory_bytes: int = Field(default=256 * 1024**2, ge=16 * 1024**2, le=2 * 1024**3)
    output_bytes: int = Field(default=64 * 1024, ge=0, le=MAX_STREAM_BYTES)
    processes: int = Field(default=64, ge=1, le=512)
    disk_bytes: int = Field(default=64 * 1024**2, ge=1024**2, le=1024**3)
    artifact_bytes: int = Field(default=16 * 1024**2, ge=0, le=MAX_ARTIFACT_BYTES)


class SandboxJob(_Frozen):
    """One program to run once.

    Attributes:
        run_id: identifies the run; the same in a redelivered job and in the result.
        language: a name in `domain.contracts.languages`; the host refuses one without an image.
        files: written into the working directory; ``entrypoint`` names one of them.
        environment: added to the program's otherwise fixed environment.
        attempt: 1 for the first try of the intent, counted up at each retry.
        token: authenticates the host to the application for this run only; None where the
            application takes no heartbeats.
        inputs: artifacts of other steps, written beside the files.
    """

    run_id: UUID
    intent_id: UUID
    attempt: int = Field(default=1, ge=1)
    language: LanguageName
    files: Annotated[tuple[JobFile, ...], FailFast()] = Field(min_length=1, max_length=64)
    entrypoint: RelativePath
    args: Annotated[tuple[str, ...], FailFast()] = Field(default=(), max_length=64)
    stdin: str = ""
    environment: dict[EnvironmentName, Annotated[str, StringConstraints(max_length=4096)]] = Field(
        default_factory=dict, max_length=32
    )
    limits: JobLimits = JobLimits()
    token: str | None = Field(default=None, max_length=512, repr=False)
    inputs: Annotated[tuple[JobInput, ...], FailFast()] = Field(default=(), max_length=MAX_INPUTS)


class Verdict(StrEnum):
    """How a run ended, as the host determined it."""

    SUCCEEDED = "succeeded"
    EXITED = "exited"  # a non-zero exit code
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"  # killed because it kept writing far beyond the limit
    DISK_LIMIT = "disk_limit"  # failed when its disk space, or number of files, was used up
    PROCESS_LIMIT = "process_limit"  # failed after the kernel refused it another process
    KILLED_BY_OPERATOR = "killed_by_operator"  # on request of the application
    INVALID_JOB = "invalid_job"  # refused before it ran; a retry cannot help
    INFRASTRUCTURE_ERROR = "infrastructure_error"  # the host failed, not the program; retryable


class Usage(_Frozen):
    """What one run used; None where the runtime cannot measure it.

    Attributes:
        wall_ms: from start to end of the program, milliseconds.
        cpu_user_ms: CPU time in user mode of all its processes, milliseconds.
        cpu_system_ms: CPU time in kernel mode of all its processes, milliseconds.
        peak_memory_bytes: highest memory use, bytes.
        output_bytes: what it wrote to stdout and stderr together, kept or not, bytes.
        disk_bytes: what its writable space held at the end, bytes.
        peak_processes: most processes and threads that were seen alive at once.
    """

    wall_ms: float = Field(ge=0)
    cpu_user_ms: float | None = Field(default=None, ge=0)
    cpu_system_ms: float | None = Field(default=None, ge=0)
    peak_memory_bytes: int | None = Field(default=None, ge=0)
    output_bytes: int = Field(default=0, ge=0)
    disk_bytes: int | None = Field(default=None, ge=0)
    peak_processes: int | None = Field(default=None, ge=0)


class Artifact(_Frozen):
    """A file that a run left in its output folder.

    Attributes:
        name: path below the output folder.
        size: bytes.
        sha256: of the content, hexadecimal.
        content: base64, if it is in the result; None if it was uploaded under its hash.
    """

    name: RelativePath
    size: int = Field(ge=0, le=MAX_ARTIFACT_BYTES)
    sha256: Sha256
    content: str | None = None


class SkippedArtifact(_Frozen):
    """Something in the output folder that was not collected, and why.

    Attributes:
        name: path below the output folder, ``.`` for the folder itself; control characters and
            bytes that are not UTF-8 are escaped as in Python; long names are cut.
    """

    name: str = Field(max_length=255)
    reason: str = Field(max_length=200)


class Behaviour(_Frozen):
    """What the host saw the program do; empty where the runtime cannot tell.

    Attributes:
        executed: names of programs seen running, in the order they were first seen.
        refused_syscalls: by system call, how often the filter refused it.
        network_attempts: attempts to reach the network outside the sandbox.
        limits_hit: names of `JobLimits` fields that the program ran into.
    """

    executed: Annotated[tuple[str, ...], FailFast()] = Field(default=(), max_length=32)
    refused_syscalls: dict[str, int] = Field(default_factory=dict, max_length=64)
    network_attempts: int | None = Field(default=None, ge=0)
    limits_hit: Annotated[tuple[str, ...], FailFast()] = Field(default=(), max_length=8)


class SandboxResult(_Frozen):
    """The outcome of one run.

    Attributes:
        exit_code: of the program, where it exited.
        signal: that ended the program, where one did.
        stdout, stderr: valid UTF-8, NUL replaced by U+FFFD, cut at the job's limit.
        stdout_bytes, stderr_bytes: how much the program wrote, also beyond the limit.
        runtime: which runtime ran it, for example ``docker`` or ``bubblewrap``.
        image: digest of the image, where there is one.
        error: for ``infrastructure_error`` and ``invalid_job``: what went wrong and what helps.
        queued_ms: from the job's arrival at the host to the program's start, milliseconds.
        warm: whether a prepared sandbox was waiting for the job.
        artifacts: files of the output folder, sorted by name.
        skipped_artifacts: the first `MAX_SKIPPED` files that were not collected, and why.
        more_skipped_artifacts: how many more were not collected.
        behaviour: what the program was seen doing.
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
    warm: bool = False
    artifacts: Annotated[tuple[Artifact, ...], FailFast()] = Field(
        default=(), max_length=MAX_ARTIFACTS
    )
    skipped_artifacts: Annotated[tuple[SkippedArtifact, ...], FailFast()] = Field(
        default=(), max_length=MAX_SKIPPED
    )
    more_skipped_artifacts: int = Field(default=0, ge=0, exclude_if=lambda more: more == 0)
    behaviour: Behaviour = Behaviour()
