"""What a session gets and returns: archives, the launcher's request and its report."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, RootModel, StringConstraints

from domain.contracts.job import MAX_SKIPPED, SkippedArtifact
from sandbox_host.run.artifacts import Collected, collect, named_and_counted, skipped_artifact
from sandbox_host.run.job import PreparedJob
from sandbox_host.run.output import FLOOD_BYTES
from sandbox_host.runtimes.base import environment_of

#: A session's file area, and file names in it.
_AREA = "/mnt/data"
JOB_ARCHIVE, ARTIFACTS = "job.tar", "artifacts.tar"

#: Bytes that an archive may take besides its contents: headers and padding of all entries.
ARCHIVE_OVERHEAD = 8 * 1024**2

_MAX_ENTRIES = 4096
_LAUNCHER = files("sandbox_host.runtimes.sessions").joinpath("launcher.py").read_text()


class Report(BaseModel):
    """The launcher's report on a run; see `launcher` for how far it can be trusted.

    Attributes:
        returncode: exit code, or the negated number of the signal that ended the program.
        killed: why the launcher killed it, if it did.
        stdout_bytes: bytes written, kept or not.
        stderr_bytes: bytes written, kept or not.
        packed: files in the archive of artifacts.
        skipped: the first files left out of it.
        more: how many more were left out.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    returncode: int = Field(ge=-64, le=255)
    killed: Literal["deadline", "output"] | None
    stdout_bytes: int = Field(ge=0)
    stderr_bytes: int = Field(ge=0)
    packed: int = Field(ge=0)
    skipped: Annotated[list[SkippedName], FailFast()] = Field(max_length=MAX_SKIPPED)
    more: int = Field(ge=0)


class NotStarted(BaseModel):
    """The launcher's report if the session's kernel refused the job's files or arguments."""

    model_config = ConfigDict(extra="forbid", strict=True)

    errno: int = Field(ge=0, le=4095)


class LauncherOutput(RootModel[Report | NotStarted]):
    """The value of the code that a session executes."""


class SkippedName(BaseModel):
    """A file that the launcher left out."""

    name: Annotated[str, StringConstraints(max_length=4096)]
    reason: Annotated[str, StringConstraints(max_length=200)]


def archive_of(job: PreparedJob) -> bytes:
    """An archive with the job's files below ``work``, and its standard input."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in job.files.items():
            _add(archive, f"work/{path}", content)
        _add(archive, "stdin", job.stdin)
    return packed.getvalue()


def _add(archive: tarfile.TarFile, path: str, content: bytes) -> None:
    member = tarfile.TarInfo(path)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def code_of(job: PreparedJob) -> str:
    """Python code that runs the program; its value is a `LauncherOutput`."""
    root = f"{_AREA}/run"
    workspace, temporary = f"{root}/work", f"{root}/tmp"  # noqa: S108 - inside the session
    request: dict[str, Any] = {
        "archive": f"{_AREA}/{JOB_ARCHIVE}",
        "artifacts": f"{_AREA}/{ARTIFACTS}",
        "root": root,
        "command": job.command(workspace),
        "environment": environment_of(job, workspace, temporary, f"{root}/out"),
        "wall_seconds": job.job.limits.wall_seconds,
        "output_bytes": job.job.limits.output_bytes,
        "flood_bytes": FLOOD_BYTES,
        "artifact_bytes": job.job.limits.artifact_bytes,
    }
    return f"{_LAUNCHER}\n\nlaunch(json.loads({json.dumps(request)!r}))\n"


def unpack(archive: bytes, max_bytes: int, report: Report) -> Collected:
    """The artifacts in ``archive``, whose content the program controls: only regular files."""
    skipped: list[SkippedArtifact] = []
    with tempfile.TemporaryDirectory(prefix="qlp-session-") as folder:
        try:
            skipped += _extract(archive, Path(folder))
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            skipped.append(skipped_artifact(".", f"the archive of artifacts is damaged: {error}"))
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = collect(opened, max_bytes)
        finally:
            os.close(opened)
    named, more = named_and_counted(
        found.skipped, skipped, skipped_in(report), more=found.more_skipped + report.more
    )
    return Collected(found.artifacts, named, found.contents, more)


def skipped_in(report: Report) -> list[SkippedArtifact]:
    """The files that the launcher has reported as left out."""
    return [skipped_artifact(one.name, one.reason) for one in report.skipped]


def _extract(archive: bytes, folder: Path) -> list[SkippedArtifact]:
    skipped: list[SkippedArtifact] = []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        for count, member in enumerate(opened):
            if count == _MAX_ENTRIES:
                why = f"there are more than {_MAX_ENTRIES} entries; the rest was not looked at"
                skipped.insert(0, skipped_artifact(".", why))
                break
            if not member.isreg():
                skipped.append(skipped_artifact(member.name, "is not a regular file"))
                continue
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                skipped.append(skipped_artifact(member.name, "its name leads out of the folder"))
                continue
            try:
                _write(opened.extractfile(member), folder / path)
            except OSError as error:
                why = f"cannot be unpacked: {error.strerror or 'damaged'}"
                skipped.append(skipped_artifact(member.name, why))
    return skipped


def _write(content: IO[bytes] | None, path: Path) -> None:
    """Write a file of an archive; none of its folders is a link, since no link is unpacked.

    `tarfile` has filters only since Python 3.11.4.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        if content is not None:
            shutil.copyfileobj(content, file)
