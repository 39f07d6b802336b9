"""Checks of a job that its schema cannot express, done once before a runtime gets it."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from domain.contracts.job import MAX_INPUT_BYTES, JobFile, SandboxJob
from domain.contracts.languages import LANGUAGES

#: Maximum size of one argument and of all together, bytes of UTF-8. The kernel's own limit for one
#: argument is 128 KiB (``MAX_ARG_STRLEN``, execve(2)).
MAX_ARGUMENT_BYTES = 32 * 1024
MAX_ARGUMENTS_BYTES = 96 * 1024

#: Maximum size of all environment variables together, names included, bytes of UTF-8.
MAX_ENVIRONMENT_BYTES = 96 * 1024

#: Maximum length of a file's or folder's name, bytes of UTF-8 (``NAME_MAX``, pathconf(3)).
MAX_NAME_BYTES = 255

#: How deep a job's files may be nested below its working directory.
MAX_FOLDERS_DEEP = 32

#: Files and folders that one box may have; an inode costs kernel memory even when empty.
MAX_INODES = 16_384

#: Of these, kept for the box itself and for the program.
_SPARE_INODES = 64

#: Errors that the kernel gives for names and arguments it can never accept.
_OF_THE_JOB = frozenset(
    {
        *(errno.ENAMETOOLONG, errno.EILSEQ, errno.ELOOP, errno.EEXIST),
        *(errno.ENOTDIR, errno.EISDIR, errno.E2BIG),
    }
)

_PAGE = 4096


class InvalidJob(ValueError):
    """The job cannot run as it is; the message names the field and says what to change."""


def refused_for_good(error: OSError, doing: str) -> InvalidJob | None:
    """The error of a job whose content made the kernel refuse ``doing``; None for other errors.

    `prepare` accepts only what usually fits; a machine's own limits may be narrower.
    """
    if error.errno not in _OF_THE_JOB:
        return None
    return InvalidJob(f"{doing}: {os.strerror(error.errno)}; shorten what it names")


def entries_of(files: Mapping[str, bytes]) -> int:
    """How many files and folders ``files`` (by path) take on a file system."""
    folders = {folder for path in files for folder in PurePosixPath(path).parents}
    return len(files) + len(folders - {PurePosixPath()})


@dataclass(frozen=True)
class PreparedJob:
    """A job that was checked.

    Attributes:
        files: relative path to content, in the job's order; with its inputs once they are fetched.
        stdin: the program's whole standard input.
        arrived: when it was prepared, a time of `time.perf_counter`.
    """

    job: SandboxJob
    files: dict[str, bytes]
    stdin: bytes
    arrived: float = field(default_factory=time.perf_counter)

    def command(self, workspace: str) -> list[str]:
        """The command to execute, given the folder with the files."""
        interpreter = LANGUAGES[self.job.language].interpreter
        return [interpreter, f"{workspace}/{self.job.entrypoint}", *self.job.args]


def prepare(job: SandboxJob) -> PreparedJob:
    """Check ``job`` and decode its files.

    Raises:
        InvalidJob: names the field and says what to change.
    """
    if job.language not in LANGUAGES:
        raise InvalidJob(f"language: {job.language!r} is not one of {', '.join(LANGUAGES)}")
    files: dict[str, bytes] = {}
    for index, file in enumerate(job.files):
        if file.path in files:
            raise InvalidJob(f"files.{index}.path: {file.path!r} is given twice; keep one of them")
        _check_path(file.path, f"files.{index}.path")
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
        _check_path(wanted.path, "inputs")
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
        raise InvalidJob(f"files.{index}.content: not valid base64 ({error})") from None


def _check_path(path: str, field: str) -> None:
    *folders, _ = names = path.split("/")
    for name in names:
        if (size := len(_encode(name, field))) > MAX_NAME_BYTES:
            raise InvalidJob(
                f"{field}: {name!r} takes {size} bytes, the limit for one name is"
                f" {MAX_NAME_BYTES}; shorten it"
            )
    if len(folders) > MAX_FOLDERS_DEEP:
        raise InvalidJob(
            f"{field}: nested {len(folders)} folders deep, the limit is {MAX_FOLDERS_DEEP};"
            " nest it less"
        )


def _check_folders(files: dict[str, bytes]) -> None:
    for path in files:
        for folder in PurePosixPath(path).parents:
            if str(folder) in files:
                raise InvalidJob(
                    f"files: {str(folder)!r} is a file and also the folder of {path!r}; rename one"
                )


def _check_arguments(arguments: tuple[str, ...]) -> None:
    total = 0
    for index, argument in enumerate(arguments):
        if "\0" in argument:
            raise InvalidJob(f"args.{index}: contains a NUL character; remove it")
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
    total = 0
    for name, value in environment.items():
        if "\0" in value:
            raise InvalidJob(f"environment.{name}: contains a NUL character; remove it")
        total += len(name) + len(_encode(value, f"environment.{name}"))
    if total > MAX_ENVIRONMENT_BYTES:
        raise InvalidJob(
            f"environment: takes {total} bytes together, the limit is {MAX_ENVIRONMENT_BYTES};"
            " pass it on stdin or in a file"
        )


def _check_room(job: SandboxJob, files: dict[str, bytes]) -> None:
    if (entries := entries_of(files)) > MAX_INODES - _SPARE_INODES:
        raise InvalidJob(
            f"files: {entries} in all, with folders and inputs; a box can have {MAX_INODES};"
            " send an archive"
        )
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
        raise InvalidJob(f"{field}: contains a lone surrogate; send valid Unicode") from None
