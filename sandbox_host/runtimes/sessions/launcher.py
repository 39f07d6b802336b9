"""Runs *inside* a session, sent there as source: starts the program and reports how it ended.

It depends on nothing but the session's Python. The program is a separate process with its own
streams, so its output cannot be taken for the report. But it has the same user as this launcher,
and a session has no further isolation: a hostile program can falsify the report on its own run. It
cannot falsify any other, since a session is used once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from typing import IO, Any

#: Files looked at, and skipped files named in the report.
_MAX_FILES, _MAX_SKIPPED = 4096, 16
#: Maximum characters of a name that the host accepts.
_MAX_NAME = 4096


class _Stream:
    """Keeps the beginning of a pipe and counts the rest."""

    def __init__(self, pipe: IO[bytes], cap: int, flood: int, on_flood: Callable[[], None]) -> None:
        self.kept, self.total = bytearray(), 0
        self._pipe, self._cap, self._flood, self._on_flood = pipe, cap, flood, on_flood
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while data := os.read(self._pipe.fileno(), 65536):
            self.total += len(data)
            self.kept += data[: max(0, self._cap - len(self.kept))]
            if self.total > self._flood:
                self._on_flood()

    def text(self) -> str:
        """What was kept; the wait is bounded, since a process may have left the group."""
        self._thread.join(2)
        return bytes(self.kept).decode("utf-8", "replace")


def launch(request: dict[str, Any]) -> str:
    """Run the program that ``request`` describes (`job.code_of`); the report as JSON."""
    root = request["root"]
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("work", "tmp", "out"):
        os.makedirs(os.path.join(root, folder))
    try:
        with tarfile.open(request["archive"]) as archive:
            archive.extractall(root)  # noqa: S202 - made by the host itself # nosec B202
        with open(os.path.join(root, "stdin"), "rb") as stdin:
            report = _run(request, stdin)
    except OSError as error:
        return json.dumps({"errno": error.errno or 0})
    report.update(_pack(os.path.join(root, "out"), request["artifacts"], request["artifact_bytes"]))
    return json.dumps(report)


class _Packer:
    """Archives the files in a folder, as far as they fit; the host checks the archive."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.packed, self.more = 0, 0
        self.skipped: list[dict[str, str]] = []
        self._folder, self._remaining_bytes = folder, max_bytes

    def pack(self, archive: tarfile.TarFile) -> None:
        """Add the files in order of their names."""
        for here, folders, names in os.walk(self._folder, onerror=self._unlisted):
            folders.sort()
            for name in sorted(names):
                if self.packed + len(self.skipped) + self.more >= _MAX_FILES:
                    why = f"there are more than {_MAX_FILES} files; the rest was not looked at"
                    self.skipped.insert(0, {"name": ".", "reason": why})
                    self.more += len(self.skipped[_MAX_SKIPPED:])
                    del self.skipped[_MAX_SKIPPED:]
                    return
                self._add(archive, os.path.join(here, name))

    def _add(self, archive: tarfile.TarFile, path: str) -> None:
        try:
            size = os.lstat(path).st_size
            if size > self._remaining_bytes:
                left = self._remaining_bytes
                self._skip(path, f"takes {size} bytes, {left} were left of the limit")
                return
            archive.add(path, arcname=os.path.relpath(path, self._folder), recursive=False)
        except OSError as error:
            self._skip(path, error.strerror or "cannot be read")
        else:
            self._remaining_bytes -= size
            self.packed += 1

    def _unlisted(self, error: OSError) -> None:
        self._skip(error.filename, error.strerror or "cannot be read")

    def _skip(self, path: str, why: str) -> None:
        if len(self.skipped) == _MAX_SKIPPED:
            self.more += 1
            return
        shown = os.path.relpath(path, self._folder).encode(errors="surrogateescape")
        name = shown.decode(errors="backslashreplace")[:_MAX_NAME]
        self.skipped.append({"name": name, "reason": why})


def _pack(folder: str, archive_path: str, max_bytes: int) -> dict[str, Any]:
    packer = _Packer(folder, max_bytes)
    with tarfile.open(archive_path, "w") as archive:
        packer.pack(archive)
    return {"packed": packer.packed, "skipped": packer.skipped, "more": packer.more}


def _run(request: dict[str, Any], stdin: IO[bytes]) -> dict[str, Any]:
    command, environment = request["command"], dict(request["environment"])
    environment["PATH"] = os.environ.get("PATH", environment["PATH"])
    if command[0] == "python3":
        command = [sys.executable, *command[1:]]
    process = subprocess.Popen(
        command,
        cwd=os.path.join(request["root"], "work"),
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    killed: list[str] = []

    def kill(why: str) -> None:
        killed.append(why)
        _kill_group(process.pid)

    assert process.stdout is not None
    assert process.stderr is not None
    cap, flood = request["output_bytes"], request["flood_bytes"]
    stdout = _Stream(process.stdout, cap, flood, lambda: kill("output"))
    stderr = _Stream(process.stderr, cap, flood, lambda: kill("output"))
    try:
        process.wait(request["wall_seconds"])
    except subprocess.TimeoutExpired:
        kill("deadline")
        process.wait()
    _kill_group(process.pid)
    sys.stdout.write(stdout.text())
    sys.stderr.write(stderr.text())
    return {
        "returncode": process.returncode,
        "killed": killed[0] if killed else None,
        "stdout_bytes": stdout.total,
        "stderr_bytes": stderr.total,
    }


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
