"""What a client or producer may submit, and the bounds on all of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from domain.contracts.validation import detail, matching
from domain.intents.struct import RECORDED, MayBeLeftOut, Value, without_defaults

#: Bytes of the content as compact UTF-8 JSON. A program this large still fits the one Service
#: Bus message (256 KB) that carries it to the sandbox.
MAX_CONTENT_BYTES = 160 * 1024

MAX_TEXT_CHARACTERS = 8_000
MAX_FILES = 64
MAX_METADATA_ENTRIES = 32

#: What an operating system takes, bytes of UTF-8: the name of one file or folder, all arguments of
#: a program together, and all its environment variables with their names. Sandboxes have to take as
#: much.
MAX_NAME_BYTES = 255
MAX_ARGUMENTS_BYTES = 96 * 1024
MAX_ENVIRONMENT_BYTES = 96 * 1024

#: How deep a program's files may lie below its folder.
MAX_FOLDERS_DEEP = 32

#: The name of a language. Whether there is such a language is checked when an intent is accepted,
#: so that an intent whose language was removed later can still be read.
Language = Annotated[
    str,
    matching(
        r"[a-z][a-z0-9+.-]{0,31}", "must be the lower-case name of a language, such as 'python'"
    ),
]

_PATH = re.compile(r"[^\x00-\x1f\x7f\\]+")


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL characters; send binary files as base64")
    return value


def _relative_path(value: str) -> str:
    parts = value.split("/")
    if not _PATH.fullmatch(value) or any(part in ("", ".", "..") for part in parts):
        raise ValueError("must be a relative path such as 'src/main.py', without '.' or '..' parts")
    return value


def _takes_names(value: str, info: ValidationInfo) -> str:
    """A file system limits each part of a path by itself, in bytes."""
    *folders, _ = names = value.split("/")
    if info.context is not RECORDED:
        size = max(len(name.encode()) for name in names)
        if size > MAX_NAME_BYTES:
            raise ValueError(
                f"one of its names takes {size} bytes in UTF-8, the limit is {MAX_NAME_BYTES}"
            )
        if len(folders) > MAX_FOLDERS_DEEP:
            raise ValueError(f"lies {len(folders)} folders deep, the limit is {MAX_FOLDERS_DEEP}")
    return value


def _arguments_fit(values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    _check_together(values, MAX_ARGUMENTS_BYTES, info)
    return values


def _environment_fits(values: dict[str, str], info: ValidationInfo) -> dict[str, str]:
    _check_together([*values, *values.values()], MAX_ENVIRONMENT_BYTES, info)
    return values


def _check_together(texts: Iterable[str], limit: int, info: ValidationInfo) -> None:
    size = sum(len(text.encode()) for text in texts)
    if size > limit and info.context is not RECORDED:
        raise ValueError(f"takes {size} bytes in UTF-8 together, the limit is {limit}")


def _not_blank(value: str, info: ValidationInfo) -> str:
    if info.context is not RECORDED and not value.strip():
        raise ValueError("must not be blank; leave it out to submit only a program")
    return value


#: PostgreSQL cannot store NUL in a text.
NO_NUL = AfterValidator(_no_nul)

Text = Annotated[str, NO_NUL]
ShortText = Annotated[str, StringConstraints(max_length=4096), NO_NUL]
Path = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    AfterValidator(_relative_path),
    AfterValidator(_takes_names),
]
EnvironmentName = Annotated[
    str,
    matching(
        r"(?:APP_[A-Z0-9_]{1,60}|TZ|LANG|LC_ALL|PYTHONHASHSEED|COLUMNS|LINES)",
        "must be named APP_ and up to 60 of A-Z, 0-9 and _, or be one of TZ, LANG, LC_ALL, "
        "PYTHONHASHSEED, COLUMNS and LINES",
    ),
]
MetadataKey = Annotated[
    str, matching(r"[A-Za-z0-9_.-]{1,64}", "must be named with 1 to 64 letters, digits, _, . and -")
]
MetadataValue = Annotated[str, StringConstraints(max_length=512), NO_NUL]


class _Content(Value, frozen=True, forbid_unknown_fields=True):
    """Refuses unknown fields: a misspelt one must not be ignored silently."""


def _decodable(content: str, info: ValidationInfo) -> str:
    if info.data.get("encoding") == "base64":
        try:
            base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the content is not valid base64") from None
    return content


class ProgramFile(_Content, frozen=True, kw_only=True):
    """One file of a program; ``encoding`` says how ``content`` is to be read."""

    path: Path
    encoding: Literal["utf-8", "base64"] = "utf-8"
    content: Annotated[Text, AfterValidator(_decodable)]

    @property
    def size(self) -> int:
        """Size of the file as the program finds it, bytes."""
        if self.encoding == "base64":
            return len(self.content) // 4 * 3 - self.content.count("=", -2)
        return len(self.content.encode())


class Limits(_Content, frozen=True):
    """Limits that a client asks for; what is left out has the sandbox's default.

    Attributes:
        wall_seconds: wall-clock time before the program is killed.
        memory_bytes: memory of all its processes together.
        output_bytes: bytes kept of stdout, and of stderr.
        processes: processes and threads alive at once.
        disk_bytes: size of all that it can write.
        artifact_bytes: size of all files together that it leaves in its output folder.
    """

    wall_seconds: Annotated[float, Field(ge=0.1, le=300)] | None = None
    memory_bytes: Annotated[int, Field(ge=16 * 1024**2, le=2 * 1024**3)] | None = None
    output_bytes: Annotated[int, Field(ge=0, le=96 * 1024)] | None = None
    processes: Annotated[int, Field(ge=1, le=512)] | None = None
    disk_bytes: Annotated[int, Field(ge=1024**2, le=1024**3)] | None = None
    artifact_bytes: Annotated[int, Field(ge=0, le=64 * 1024**2)] | None = None


def _files(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """Accept the short form ``{"main.py": "print(1)"}`` besides the list of objects.

    Errors in the short form name a file's path instead of its number.
    """
    if not isinstance(value, dict):
        return read(tuple(value) if isinstance(value, list) else value)
    try:
        return read(tuple({"path": path, "content": text} for path, text in value.items()))
    except ValidationError as error:
        raise _by_path(error, [*value]) from None


def _by_path(error: ValidationError, paths: Sequence[str]) -> ValidationError:
    details = [
        InitErrorDetails(
            type=PydanticCustomError("file", "{detail}", {"detail": detail(each)}),
            loc=tuple(paths[part] for part in each["loc"][:1] if isinstance(part, int)),
            input=None,
        )
        for each in error.errors(include_input=False, include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, details)


def _paths_fit_together(files: tuple[ProgramFile, ...]) -> tuple[ProgramFile, ...]:
    paths = [file.path for file in files]
    if len(set(paths)) != len(paths):
        raise ValueError("two files have the same path")
    parents = {
        path.rsplit("/", depth)[0] for path in paths for depth in range(1, path.count("/") + 1)
    }
    if clash := parents.intersection(paths):
        raise ValueError(f"{min(clash)!r} is both a file and a directory")
    return files


def _only_file(entrypoint: object, info: ValidationInfo) -> object:
    if entrypoint is not None:
        return entrypoint
    files = info.data.get("files")
    if files is None:
        return "unknown"  # the files are reported as wrong, not this
    if len(files) != 1:
        raise ValueError("name the file that is to be run")
    return files[0].path


def _among_files(entrypoint: str, info: ValidationInfo) -> str:
    files = info.data.get("files")
    if files is not None and entrypoint not in (file.path for file in files):
        raise ValueError(f"entrypoint {entrypoint!r} is not among the files")
    return entrypoint


class Program(_Content, frozen=True):
    """A program to run: its files and how to start it.

    Attributes:
        language: which interpreter runs ``entrypoint``.
        files: a list of `ProgramFile`, or an object of path to text.
        entrypoint: path of the file to run; may be left out when there is only one file.
        args: command-line arguments.
        stdin: text on the program's standard input.
        environment: added to the program's environment: ``APP_…``, ``TZ``, ``LANG``, ``LC_ALL``,
            ``PYTHONHASHSEED``, ``COLUMNS``, ``LINES``.
    """

    language: Language
    files: Annotated[
        tuple[ProgramFile, ...],
        Field(min_length=1, max_length=MAX_FILES),
        FailFast(),
        WrapValidator(_files),
        AfterValidator(_paths_fit_together),
    ]
    entrypoint: Annotated[
        Path,
        MayBeLeftOut,
        BeforeValidator(_only_file),
        AfterValidator(_among_files),
    ]
    args: Annotated[
        tuple[ShortText, ...],
        Field(max_length=64),
        FailFast(),
        AfterValidator(_arguments_fit),
    ] = ()
    stdin: Text = ""
    environment: Annotated[
        dict[EnvironmentName, ShortText],
        Field(max_length=32),
        AfterValidator(_environment_fits),
    ] = msgspec.field(default_factory=dict)
    limits: Limits = Limits()


class PlanningOptions(_Content, frozen=True):
    """How a program may be found for a sentence.

    Attributes:
        reuse: ``exact``: the program of a solved intent with the same words may be reused;
            ``similar``: also that of one that asks for the same in other words, if the language
            model confirms it; ``never``: none.
    """

    reuse: Literal["exact", "similar", "never"] = "exact"


class IntentContent(_Content, frozen=True):
    """A sentence, a program, or both.

    Attributes:
        text: what is wanted, in the client's words.
        program: what to run for it.
        planning: how a program may be found, where none is given.
        metadata: the client's own labels; kept and returned, never interpreted.
    """

    text: (
        Annotated[
            str,
            StringConstraints(max_length=MAX_TEXT_CHARACTERS),
            NO_NUL,
            AfterValidator(_not_blank),
        ]
        | None
    ) = None
    program: Program | None = None
    planning: PlanningOptions = PlanningOptions()
    metadata: Annotated[
        dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_ENTRIES)
    ] = msgspec.field(default_factory=dict)

    def fits_together(self) -> None:
        """Raise ValueError if there is nothing to do, or the whole is too large."""
        if self.text is None and self.program is None:
            raise ValueError("give a text, a program, or both")
        if (size := len(self.canonical())) > MAX_CONTENT_BYTES:
            raise ValueError(f"takes {size} bytes as JSON, the limit is {MAX_CONTENT_BYTES}")

    def canonical(self) -> bytes:
        """The one JSON form of this content: compact, keys sorted, defaults left out."""
        return json.dumps(
            without_defaults(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    def fingerprint(self) -> str:
        """SHA-256 of the canonical form, hexadecimal: equal for equal requests."""
        return hashlib.sha256(self.canonical()).hexdigest()
