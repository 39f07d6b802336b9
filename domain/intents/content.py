"""What a client or producer may submit, and the bounds on all of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

#: Bytes of the content as compact UTF-8 JSON. A program this large still fits the one Service
#: Bus message (256 KB) that carries it to the sandbox.
MAX_CONTENT_BYTES = 160 * 1024

MAX_TEXT_CHARACTERS = 8_000
MAX_FILES = 64
MAX_METADATA_ENTRIES = 32

Language = Literal["python", "shell"]

#: Validation context of content read back from the log: it was measured when it was accepted.
RECORDED = {"recorded": True}

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


Text = Annotated[str, BeforeValidator(lambda v: _no_nul(v) if isinstance(v, str) else v)]
Path = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    BeforeValidator(lambda v: _relative_path(v) if isinstance(v, str) else v),
]
MetadataKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
MetadataValue = Annotated[Text, StringConstraints(max_length=512)]


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)


class ProgramFile(_Content):
    """One file of a program; ``encoding`` says how ``content`` is to be read."""

    path: Path
    content: Text
    encoding: Literal["utf-8", "base64"] = "utf-8"

    @model_validator(mode="after")
    def _decodable(self) -> Self:
        if self.encoding == "base64":
            try:
                base64.b64decode(self.content, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"the content of {self.path!r} is not valid base64") from None
        return self


class Limits(_Content):
    """Limits a client asks for; what is left out takes the sandbox's default.

    Attributes:
        wall_seconds: wall-clock time before the program is killed.
        memory_bytes: memory of all its processes together.
        output_bytes: bytes kept of stdout, and of stderr.
        processes: processes and threads alive at once.
        disk_bytes: size of the writable workspace.
    """

    wall_seconds: float | None = Field(default=None, ge=0.1, le=300)
    memory_bytes: int | None = Field(default=None, ge=16 * 1024**2, le=2 * 1024**3)
    output_bytes: int | None = Field(default=None, ge=0, le=96 * 1024)
    processes: int | None = Field(default=None, ge=1, le=512)
    disk_bytes: int | None = Field(default=None, ge=1024**2, le=1024**3)


def _files_as_list(value: object) -> object:
    """Accept the short form ``{"main.py": "print(1)"}`` beside the list of objects."""
    if isinstance(value, dict):
        return [{"path": path, "content": content} for path, content in value.items()]
    return value


class Program(_Content):
    """A program to run: its files and how to start it.

    Attributes:
        language: which interpreter runs ``entrypoint``.
        files: a list of `ProgramFile`, or an object of path to text.
        entrypoint: path of the file to run; may be left out when there is only one file.
        args: command-line arguments.
        stdin: text on the program's standard input.
    """

    language: Language
    files: Annotated[tuple[ProgramFile, ...], BeforeValidator(_files_as_list)] = Field(
        min_length=1, max_length=MAX_FILES
    )
    entrypoint: Path
    args: tuple[Annotated[Text, StringConstraints(max_length=4096)], ...] = Field(
        default=(), max_length=64
    )
    stdin: Text = ""
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _only_file_is_entrypoint(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("entrypoint") is None:
            files = _files_as_list(value.get("files"))
            if isinstance(files, list | tuple) and len(files) == 1:
                only = files[0]
                path = only.get("path") if isinstance(only, dict) else getattr(only, "path", None)
                return {**value, "entrypoint": path}
        return value

    @model_validator(mode="after")
    def _paths_fit_together(self) -> Self:
        paths = [file.path for file in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("two files have the same path")
        parents = {
            path.rsplit("/", depth)[0] for path in paths for depth in range(1, path.count("/") + 1)
        }
        if clash := parents.intersection(paths):
            raise ValueError(f"{min(clash)!r} is both a file and a directory")
        if self.entrypoint not in paths:
            raise ValueError(f"entrypoint {self.entrypoint!r} is not among the files")
        return self


class IntentContent(_Content):
    """A sentence, a program, or both.

    Attributes:
        text: what is wanted, in the client's words.
        program: what to run for it.
        metadata: the client's own labels; kept and returned, never interpreted.
    """

    text: Annotated[Text, StringConstraints(max_length=MAX_TEXT_CHARACTERS)] | None = None
    program: Program | None = None
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default_factory=dict, max_length=MAX_METADATA_ENTRIES
    )

    @model_validator(mode="after")
    def _something_to_do(self, info: ValidationInfo) -> Self:
        if self.text is not None and not self.text.strip():
            raise ValueError("text must not be blank; leave it out to submit only a program")
        if self.text is None and self.program is None:
            raise ValueError("give a text, a program, or both")
        if info.context is RECORDED:
            return self
        if (size := len(self.canonical())) > MAX_CONTENT_BYTES:
            raise ValueError(f"takes {size} bytes as JSON, the limit is {MAX_CONTENT_BYTES}")
        return self

    def canonical(self) -> bytes:
        """The one JSON form of this content: compact, keys sorted, defaults left out."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(
            content, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    def fingerprint(self) -> str:
        """SHA-256 of the canonical form, hexadecimal: equal for equal requests."""
        return hashlib.sha256(self.canonical()).hexdigest()
