"""The folders on this machine that boxes see as ``/in``, with the job's original files.

Such a folder is bound read-only when the box is made, and filled when there is a job. Only the
box's own user may enter it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from domain.contracts.job import MAX_INPUT_BYTES
from sandbox_host.linux.folders import OPEN_FOLDER, make_folder
from sandbox_host.linux.host_folders import new_folders, reap_folders
from sandbox_host.linux.processes import acting_as
from sandbox_host.runtimes.base import RuntimeFailure

#: Where to make them; in memory, if there is room.
_PLACES = ("/dev/shm", "/run", "/tmp", "/var/tmp")  # noqa: S108 - made by mkdtemp
_PREFIX = "qlp-in-"

#: Bytes that must be free there: enough for a few jobs of the maximum size.
_ROOM = 4 * MAX_INPUT_BYTES

_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class InputFolders:
    """The input folders of one host's boxes, all in one folder, which the keeper removes.

    Raises:
        RuntimeFailure: that folder can be made nowhere; it says what was tried.
    """

    def __init__(self) -> None:
        tried: list[str] = []
        for folder in new_folders(_PREFIX, _PLACES, tried):
            found = os.statvfs(folder)
            if found.f_bavail * found.f_frsize >= _ROOM:
                break
            tried.append(f"{folder.parent}: less than {_ROOM} bytes are free")
            folder.rmdir()
        else:
            raise RuntimeFailure(f"no folder for the jobs' files: {'; '.join(tried)}")
        folder.chmod(0o711)
        self.path = folder
        self._serial = itertools.count()

    def make(self, user: int | None) -> InputFolder:
        """Make an empty folder for the box of ``user``; None is this process's own user.

        Raises:
            OSError: the kernel refuses.
        """
        return InputFolder(self.path / str(next(self._serial)), user)


class InputFolder:
    """One box's input folder.

    Attributes:
        path: where it is, for ``bwrap`` to bind.
    """

    def __init__(self, path: Path, user: int | None) -> None:
        make_folder(path, 0o700)
        if user is not None:
            os.chown(path, user, user)
        self.path = path
        self._user = user

    def write(self, workspace: int, files: Mapping[str, bytes]) -> None:
        """Write ``files``, and copies that the program may change; call it before it starts.

        Args:
            workspace: descriptor of the folder for the copies.
            files: content by relative path.

        Raises:
            OSError: the kernel refuses.
        """
        with acting_as(self._user):
            originals = os.open(self.path, OPEN_FOLDER)
            try:
                for path, content in files.items():
                    _write_file(originals, path, content, 0o444)
                    _write_file(workspace, path, content, 0o644)
            finally:
                os.close(originals)

    def remove(self) -> None:
        """Delete it; files that a running box has open stay until it closes them."""
        shutil.rmtree(self.path, ignore_errors=True)


def reap_inputs() -> int:
    """Remove the folders that dead hosts have left; the number of hosts."""
    return reap_folders(_PREFIX)


def _write_file(folder: int, path: str, content: bytes, mode: int) -> None:
    *parents, name = path.split("/")
    with contextlib.ExitStack() as opened:
        for parent in parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o700, dir_fd=folder)
            folder = os.open(parent, OPEN_FOLDER, dir_fd=folder)
            opened.callback(os.close, folder)
            os.fchmod(folder, 0o755)
        descriptor = os.open(name, _OPEN_NEW, mode, dir_fd=folder)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
