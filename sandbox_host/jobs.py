"""Checks on a job that its schema cannot express, done once before any runtime sees it."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from domain.sandbox.contract import MAX_INPUT_BYTES, JobFile, SandboxJob
from domain.sandbox.languages import LANGUAGES

#: Longest single argument and all of them together, bytes of UTF-8. The kernel's own limit for
#: one argument is 128 KiB (``MAX_ARG_STRLEN``, execve(2)).
MAX_ARGUMENT_BYTES = 32 * 1024
MAX_ARGUMENTS_BYTES = 96 * 1024

_PAGE = 4096


class InvalidJob(ValueError):
    """The job cannot run as it is; the message names the field and the fix."""


@dataclass(frozen=True)
class PreparedJob:
    """A job whose parts are known to fit together.

    Attributes:
        files: relative path to content, in the job's order; its inputs too once they are there.
        stdin: all the program will read.
        arrived: when it was prepared, on the clock of `time.perf_counter`.
    """

    job: SandboxJob
    files: dict[str, bytes]
    stdin: bytes
    arrived: float = field(default_factory=time.perf_counter)

    def command(self, workspace: str) -> list[str]:
        """What to execute, given where the files lie."""
        interpreter = LANGUAGES[self.job.language].interpreter
        return [interpreter, f"{workspace}/{self.job.entrypoint}", *self.job.args]


def prepare(job: SandboxJob) -> PreparedJob:
    """Check ``job`` and decode its files.

    Raises:
        InvalidJob: names the field and the fix.
    """
    if job.language not in LANGUAGES:
        raise InvalidJob(f"language: {job.language!r} is not one of {', '.join(LANGUAGES)}")
    files: dict[str, bytes] = {}
    for index, file in enumerate(job.files):
        if file.path in files:
            raise InvalidJob(f"files.{index}.path: {file.path!r} is there twice; keep one of them")
        files[file.path] = _content(file, index)
    _check_folders(files)
    if job.entrypoint not in files:
        raise InvalidJob(f"entrypoint: {job.entrypoint!r} is not among files; add it to files")
    _check_arguments(job.args)
    _check_environment(job.environment)
    _check_room(job, files)
    if (size := sum(wanted.size for wanted in job.inputs)) > MAX_INPUT_BYTES:
        raise InvalidJob(f"inputs: take {size} bytes together, the limit is {MAX_INPUT_BYTES}")
    return PreparedJob(job, files, _encode(job.stdin, "stdin"))


def with_inputs(prepared: PreparedJob, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The job's files and inputs by path, given the inputs' ``contents`` by SHA-256.

    Raises:
        InvalidJob: they do not fit together, or into the job's limits.
    """
    files = dict(prepared.files)
    for wanted in prepared.job.inputs:
        if wanted.path in files:
            raise InvalidJob(f"inputs: {wanted.path!r} is also one of files; rename that file")
        files[wanted.path] = contents[wanted.sha256]
    _check_folders(files)
    _check_room(prepared.job, files)
    return files


def _content(file: JobFile, index: int) -> bytes:
    if file.encoding == "utf-8":
        return _encode(file.content, f"files.{index}.content")
    try:
        return base64.b64decode(file.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidJob(f"files.{index}.content: not base64 ({error}); encode it anew") from None


def _check_folders(files: dict[str, bytes]) -> None:
    for path in files:
        _encode(path, "files.path")
        for folder in PurePosixPath(path).parents:
            if str(folder) in files:
                raise InvalidJob(
                    f"files: {str(folder)!r} is a file and also the folder of {path!r}; rename one"
                )


def _check_arguments(arguments: tuple[str, ...]) -> None:
    total = 0
    for index, argument in enumerate(arguments):
        if "\0" in argument:
            raise InvalidJob(f"args.{index}: holds a NUL character; remove it")
        size = len(_encode(argument, f"args.{index}"))
        if size > MAX_ARGUMENT_BYTES:
            raise InvalidJob(
                f"args.{index}: takes {size} bytes, the limit is {MAX_ARGUMENT_BYTES};"
                " pass it on stdin or in a file"
            )
        total += size
    if total > MAX_ARGUMENTS_BYTES:
        raise InvalidJob(
            f"args: take {total} bytes together, the limit is {MAX_ARGUMENTS_BYTES};"
            " pass them on stdin or in a file"
        )


def _check_environment(environment: dict[str, str]) -> None:
    for name, value in environment.items():
        if "\0" in value:
            raise InvalidJob(f"environment.{name}: holds a NUL character; remove it")
        _encode(value, f"environment.{name}")


def _check_room(job: SandboxJob, files: dict[str, bytes]) -> None:
    needed = sum((len(content) + _PAGE - 1) // _PAGE * _PAGE for content in files.values())
    if needed >= job.limits.disk_bytes:
        raise InvalidJob(
            f"limits.disk_bytes: the files alone take {needed} of {job.limits.disk_bytes} bytes;"
            " raise the limit or send less"
        )


def _encode(text: str, field: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidJob(f"{field}: holds a lone surrogate; send valid Unicode") from None
