"""The writable space of one docker box: a tmpfs that this host mounts and the engine binds.

The host lays the job's files straight into it, can change its size when a waiting box is given a
job, sees how full it is, and reads the artifacts out of it when nothing in the box runs any more.
It also holds the pipes that the agent and the program write into; their names are gone before the
program starts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_host.linux.folders import make_file, make_folder
from sandbox_host.linux.mounts import mount_tmpfs, resize_tmpfs, unmount
from sandbox_host.linux.processes import is_alive
from sandbox_host.run.artifacts import Collected, collect
from sandbox_host.run.job import MAX_INODES, PreparedJob, entries_of
from sandbox_host.runtimes.base import BOX, OUTPUT, files_refused

log = logging.getLogger(__name__)

#: Below it a folder for each host, and in that one for each box.
WORKSPACES = Path("/run/qlp-sandbox")

#: Where the job's files lie as they came, for the program to read.
INPUT = "/in"

#: The pipes' folder as the agent sees it, and their names.
PIPES = f"{INPUT}/.agent"
_MARKS = "marks"
_PIPE_NAMES = (_MARKS, "out", "err")

#: Files and folders that every workspace has of its own, beside those that the limit is for.
_OWN_INODES = 32
_PAGE = 4096

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Space:
    """How full a workspace is: bytes that the program filled, and whether it has any room left."""

    used_bytes: int
    full: bool


class Workspace:
    """One box's space.

    Args:
        folder: to be made and mounted on; its parent is there.
        owner: user and group that the box's program has, as this host numbers them.
        agent: the same of the box's agent.
        size_bytes: what the program may fill.
        pipes: make those, too.

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
        self._laid_bytes = 0
        self.pipes: dict[str, int] = {}
        make_folder(folder, 0o711)
        try:
            mount_tmpfs(folder, size_bytes, MAX_INODES + _OWN_INODES)
        except OSError:
            folder.rmdir()
            raise
        try:
            self._furnish(pipes)
        except BaseException:
            self.close()
            raise

    def _furnish(self, pipes: bool) -> None:
        for name in ("in", "box", "out", "box/work", "box/tmp"):
            make_folder(self.folder / name, 0o755)
        for name in ("out", "box/work", "box/tmp"):
            os.chown(self.folder / name, self._owner, self._owner)
        self._root = os.open(self.folder, _FOLDER)
        if not pipes:
            return
        home = self.folder / "in" / ".agent"
        make_folder(home, 0o755)
        for name in _PIPE_NAMES:
            # Of the program's user, so that it may open what its /dev/stdout leads to; but for the
            # marks, which are the agent's alone.
            owner, mode = (self._agent, 0o200) if name == _MARKS else (self._owner, 0o220)
            os.mkfifo(home / name, 0)
            os.chown(home / name, owner, self._agent)
            (home / name).chmod(mode)
            self.pipes[name] = os.open(home / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def mounts(self) -> list[dict[str, Any]]:
        """What the engine is to bind, as its API has it: it refuses what it does not see."""
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
        """Remove the pipes' names; the agent has opened them."""
        shutil.rmtree(self.folder / "in" / ".agent", ignore_errors=True)

    def lay(self, job: PreparedJob) -> None:
        """Lay the job's files, and give the workspace the job's size; before the program starts.

        Raises:
            InvalidJob: the kernel cannot take the files' names.
            OSError: the kernel refuses the size.
            RuntimeFailure: it refuses a file.
        """
        laid = sum(-(-len(content) // _PAGE) * _PAGE for content in job.files.values())
        size, inodes = job.job.limits.disk_bytes, MAX_INODES + _OWN_INODES
        # Of the two copies of each file only the writable one counts against the limit.
        resize_tmpfs(self.folder, size + laid, inodes + entries_of(job.files))
        try:
            for path, content in job.files.items():
                self._lay_file("in", path, content, 0)
                self._lay_file("box/work", path, content, self._owner)
        except OSError as error:
            raise files_refused(error) from error
        self._laid_bytes = laid

    def _lay_file(self, place: str, path: str, content: bytes, owner: int) -> None:
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
        """How full it is now; `Space.used_bytes` includes the job's files in the workspace."""
        found = os.fstatvfs(self._root)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return Space(max(0, used - self._laid_bytes), found.f_bfree == 0 or found.f_ffree == 0)

    def collect(self, max_bytes: int) -> Collected:
        """The artifacts; when nothing in the box runs any more."""
        folder = os.open("out", _FOLDER, dir_fd=self._root)
        try:
            return collect(folder, max_bytes)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Unmount; what a box still holds of it goes with the box."""
        for descriptor in (self._root, *self.pipes.values()):
            if descriptor >= 0:
                os.close(descriptor)
        self._root, self.pipes = -1, {}
        remove_workspace(self.folder)


def remove_workspace(folder: Path) -> None:
    """Unmount and delete one workspace's folder; logs what cannot be."""
    try:
        with contextlib.suppress(OSError):  # it may not be mounted (any more)
            unmount(folder)
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("a box's folder stays: %s", error)


def reap_workspaces() -> None:
    """Remove the workspaces of hosts that died."""
    for host in WORKSPACES.glob("*"):
        if is_alive(host.name):
            continue
        for workspace in host.glob("*"):
            remove_workspace(workspace)
        with contextlib.suppress(OSError):
            host.rmdir()
