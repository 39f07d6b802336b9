"""Collects artifacts from a program's output folder, whose content the program controls.

Call it when nothing in the box runs any more. Every entry is opened relative to its folder's
descriptor, never by a path; links are not followed; and only regular files with a single hard link
are read. So a program cannot make it read anything outside the folder.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from pydantic import ConfigDict, TypeAdapter, ValidationError

from domain.contracts.job import (
    INLINE_ARTIFACT_BYTES,
    MAX_ARTIFACTS,
    MAX_SKIPPED,
    Artifact,
    RelativePath,
    SkippedArtifact,
)
from sandbox_host.linux.folders import OPEN_FOLDER

#: Limits of the walk: how deep folders may be nested, and entries looked at in all.
_MAX_DEPTH = 16
_MAX_ENTRIES = 4096

_NAME: TypeAdapter[str] = TypeAdapter(RelativePath, config=ConfigDict(regex_engine="python-re"))
_MAX_NAME, _MAX_REASON = 255, 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Non-blocking, so as not to hang on a FIFO that has replaced a file.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class Collected:
    """A program's artifacts.

    Attributes:
        skipped: the first `MAX_SKIPPED` files left out, with reasons.
        contents: by SHA-256, the contents that do not fit into the result.
        more_skipped: how many more files were left out.
    """

    artifacts: tuple[Artifact, ...] = ()
    skipped: tuple[SkippedArtifact, ...] = ()
    contents: dict[str, bytes] = field(default_factory=dict, repr=False)
    more_skipped: int = 0


class _Skip(Exception):
    """An entry is not collected; the message says why."""


def skipped_artifact(name: str, reason: str) -> SkippedArtifact:
    """A skipped file; its name, whatever bytes it has, is made printable."""
    shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    shown = _CONTROL.sub(lambda one: one[0].encode("unicode_escape").decode(), shown)
    if len(shown) > _MAX_NAME:
        shown = f"{shown[: _MAX_NAME - 1]}…"
    return SkippedArtifact(name=shown, reason=reason[:_MAX_REASON])


def named_and_counted(
    *skipped: Iterable[SkippedArtifact], more: int = 0
) -> tuple[tuple[SkippedArtifact, ...], int]:
    """The first `MAX_SKIPPED` of ``skipped``, and the number of the others plus ``more``."""
    every = tuple(chain(*skipped))
    return every[:MAX_SKIPPED], more + max(0, len(every) - MAX_SKIPPED)


def _wrong_with(path: str) -> str | None:
    """Why no artifact may have this path, relative to the output folder; None if it may."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    if _CONTROL.search(path):
        return "its name has control characters"
    if "\\" in path:
        return "its name has a backslash"
    if len(path) > _MAX_NAME:
        return f"its path takes {len(path)} characters, the limit is {_MAX_NAME}"
    try:
        _NAME.validate_python(path)
    except ValidationError:
        return "its name is not one that an artifact may have"
    return None


@dataclass
class _Collector:
    remaining_bytes: int
    inline: int = INLINE_ARTIFACT_BYTES
    seen: int = 0
    artifacts: list[Artifact] = field(default_factory=list)
    skipped: list[SkippedArtifact] = field(default_factory=list)
    more_skipped: int = 0
    contents: dict[str, bytes] = field(default_factory=dict)

    def walk(self, folder: int, prefix: str, depth: int) -> None:
        for name in sorted(_names(folder, _MAX_ENTRIES + 1)):
            self.seen += 1
            if self.seen > _MAX_ENTRIES:
                self._stop(prefix or ".")
                return
            path = prefix + name
            try:
                self._take(folder, name, path, depth)
            except _Skip as why:
                self.skip(path, str(why))
            except OSError as error:
                self.skip(path, error.strerror or "cannot be read")

    def skip(self, path: str, why: str) -> None:
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append(skipped_artifact(path, why))
        else:
            self.more_skipped += 1

    def _stop(self, folder: str) -> None:
        """Report, once and first of all, that further entries are neither read nor counted."""
        if self.seen == _MAX_ENTRIES + 1:
            why = f"there are more than {_MAX_ENTRIES} entries; the rest was not looked at"
            every = (skipped_artifact(folder, why), *self.skipped)
            named, self.more_skipped = named_and_counted(every, more=self.more_skipped)
            self.skipped = list(named)

    def _take(self, folder: int, name: str, path: str, depth: int) -> None:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            if depth == _MAX_DEPTH:
                raise _Skip(f"lies more than {_MAX_DEPTH} folders deep")
            opened = os.open(name, OPEN_FOLDER, dir_fd=folder)
            try:
                self.walk(opened, f"{path}/", depth + 1)
            finally:
                os.close(opened)
            return
        if not stat.S_ISREG(found.st_mode):
            raise _Skip("is not a regular file")
        if (wrong := _wrong_with(path)) is not None:
            raise _Skip(wrong)
        if len(self.artifacts) == MAX_ARTIFACTS:
            raise _Skip(f"there are more than {MAX_ARTIFACTS} files")
        self._add(path, self._read(folder, name))

    def _read(self, folder: int, name: str) -> bytes:
        descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _Skip("is not a regular file")
            if found.st_nlink != 1:
                raise _Skip("has more than one name (hard links)")
            # The size of a sparse file is what reading it would yield.
            if found.st_size > self.remaining_bytes:
                raise _Skip(
                    f"takes {found.st_size} bytes, {self.remaining_bytes} were left of the limit"
                )
            content = file.read(found.st_size + 1)
        if len(content) != found.st_size:
            raise _Skip("changed while it was read")
        return content

    def _add(self, path: str, content: bytes) -> None:
        self.remaining_bytes -= len(content)
        digest = hashlib.sha256(content).hexdigest()
        carried = None
        if len(content) <= self.inline:
            self.inline -= len(content)
            carried = base64.b64encode(content).decode()
        else:
            self.contents[digest] = content
        self.artifacts.append(
            Artifact(name=path, size=len(content), sha256=digest, content=carried)
        )


def _names(folder: int, limit: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count == limit:
                return
            yield entry.name


def collect(folder: int, max_bytes: int) -> Collected:
    """Read the files below an output folder, in order of their names.

    Args:
        folder: the folder's descriptor, which stays open.
        max_bytes: of all contents together; files beyond it are listed as skipped.

    Raises:
        OSError: the folder itself cannot be read.
    """
    collector = _Collector(max_bytes)
    collector.walk(folder, "", 1)
    return Collected(
        tuple(collector.artifacts),
        tuple(collector.skipped),
        collector.contents,
        collector.more_skipped,
    )
