"""The writable space of one docker box: a tmpfs that this host mounts and the engine binds.

The host writes the job's files directly into it, can resize it when a waiting box gets a job, sees
how full it is, and reads the artifacts when nothing in the box runs any more. It also has the pipes
that the agent and the program write to; their names are removed before the program starts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_host.linux.folders import OPEN_FOLDER, make_file, make_folder
from sandbox_host.linux.mounts import mount_tmpfs, resize_tmpfs, unmount
from sandbox_host.linux.processes import is_alive
from sandbox_host.run.artifacts import Collected, collect
from sandbox_host.run.job import MAX_INODES, PreparedJob, entries_of
from sandbox_host.runtimes.base import BOX, OUTPUT, files_refused

log = logging.getLogger(__name__)

#: Contains a folder for each host, with a folder for each box.
WORKSPACES = Path("/run/qlp-sandbox")

#: Where a program sees its job's files read-only.
INPUT = "/in"

#: The pipes' folder inside the box, and their names.
PIPES = f"{INPUT}/.agent"
_MARKS = "marks"
_PIPE_NAMES = (_MARKS, "out", "err")

#: Inodes that a workspace itself needs, besides those that the limit is for.
_OWN_INODES = 32
_PAGE = 4096


@dataclass(frozen=True)
class Space:
    """How full a workspace is: bytes used by the program, and whether no room is left."""

    used_bytes: int
    full: bool


class Workspace:
    """One box's space.

    Args:
        folder: where to make and mount it; the parent must exist.
        owner: user and group ID of the box's program on this host.
        agent: user and group ID of the box's agent on this host.
        size_bytes: how much the program may write.
        pipes: whether to make pipes.

    Raises:
        OSError: it cannot be mounted.
    """

    def __init__(
        self, folder: Path, owner: int, agent: int, size_bytes: int, *, pipes: bool
    ) -> None:
        self.folder = folder
        self._owner = owner
        self._agent = agent
        self._root = -1
        self._original_bytes = 0
        self.pipes: dict[str, int] = {}
        make_folder(folder, 0o711)
        try:
            mount_tmpfs(folder, size_bytes, MAX_INODES + _OWN_INODES)
        except OSError:
            folder.rmdir()
            raise
        try:
            self._make_entries(pipes)
        except BaseException:
            self.close()
            raise

    def _make_entries(self, pipes: bool) -> None:
        for name in ("in", "box", "out", "box/work", "box/tmp"):
            make_folder(self.folder / name, 0o755)
        for name in ("out", "box/work", "box/tmp"):
            os.chown(self.folder / name, self._owner, self._owner)
        self._root = os.open(self.folder, OPEN_FOLDER)
        if not pipes:
            return
        home = self.folder / "in" / ".agent"
        make_folder(home, 0o755)
        for name in _PIPE_NAMES:
            # The program's user owns its pipes, so that the program may open its /dev/stdout. The
            # pipe for the marks is the agent's alone.
            owner, mode = (self._agent, 0o200) if name == _MARKS else (self._owner, 0o220)
            os.mkfifo(home / name, 0)
            os.chown(home / name, owner, self._agent)
            (home / name).chmod(mode)
            self.pipes[name] = os.open(home / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def mounts(self) -> list[dict[str, Any]]:
        """The mounts for the engine's API; the engine refuses folders that it cannot see."""
        return [
            {
                "Type": "bind",
                "Source": str(self.folder / name),
                "Target": target,
                "ReadOnly": name == "in",
            }
            for name, target in (("in", INPUT), ("box", BOX), ("out", OUTPUT))
        ]

    def hide_pipes(self) -> None:
        """Remove the pipes' names, after the agent has opened them."""
        shutil.rmtree(self.folder / "in" / ".agent", ignore_errors=True)

    def write(self, job: PreparedJob) -> None:
        """Set the job's size and write its files; call it before the program starts.

        Raises:
            InvalidJob: the kernel cannot accept the files' names.
            OSError: the kernel refuses the size.
            RuntimeFailure: the kernel refuses a file.
        """
        originals = sum(-(-len(content) // _PAGE) * _PAGE for content in job.files.values())
        size, inodes = job.job.limits.disk_bytes, MAX_INODES + _OWN_INODES
        # There are two copies of each file; only the writable one counts against the limit.
        resize_tmpfs(self.folder, size + originals, inodes + entries_of(job.files))
        try:
            for path, content in job.files.items():
                self._write_file("in", path, content, 0)
                self._write_file("box/work", path, content, self._owner)
        except OSError as error:
            raise files_refused(error) from error
        self._original_bytes = originals

    def _write_file(self, place: str, path: str, content: bytes, owner: int) -> None:
        folder = self.folder / place
        *parents, name = path.split("/")
        for parent in parents:
            folder /= parent
            with contextlib.suppress(FileExistsError):
                make_folder(folder, 0o755)
                os.chown(folder, owner, owner)
        file = folder / name
        make_file(file, content, 0o644)
        os.chown(file, owner, owner)

    def space(self) -> Space:
        """How full it is now; the writable copies of the job's files count as used."""
        found = os.fstatvfs(self._root)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return Space(max(0, used - self._original_bytes), found.f_bfree == 0 or found.f_ffree == 0)

    def collect(self, max_bytes: int) -> Collected:
        """The artifacts; call it when nothing in the box runs any more."""
        folder = os.open("out", OPEN_FOLDER, dir_fd=self._root)
        try:
            return collect(folder, max_bytes)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Unmount and delete it; what a box still has open exists until the box ends."""
        for descriptor in (self._root, *self.pipes.values()):
            if descriptor >= 0:
                os.close(descriptor)
        self._root, self.pipes = -1, {}
        remove_workspace(self.folder)


def remove_workspace(folder: Path) -> None:
    """Unmount and delete a workspace's folder; a failure is logged."""
    try:
        with contextlib.suppress(OSError):  # it may not be mounted
            unmount(folder)
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("a box's folder could not be removed: %s", error)


def reap_workspaces() -> None:
    """Remove the workspaces of dead hosts."""
    for host in WORKSPACES.glob("*"):
        if is_alive(host.name):
            continue
        for workspace in host.glob("*"):
            remove_workspace(workspace)
        with contextlib.suppress(OSError):
            host.rmdir()
