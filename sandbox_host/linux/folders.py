"""Makes folders and files with exact modes, whatever this process's umask is."""

from __future__ import annotations

import os
from pathlib import Path

#: Flags that open a folder as a descriptor, but not through a link.
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_folder(path: Path, mode: int, *, exist_ok: bool = False) -> None:
    """Make one folder; its parent must exist.

    Args:
        path: the folder's.
        mode: its permissions.
        exist_ok: accept an existing folder, and set its mode.

    Raises:
        OSError: the kernel refuses.
    """
    path.mkdir(mode=mode, exist_ok=exist_ok)
    path.chmod(mode)


def make_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file, replacing its content if it exists.

    Raises:
        OSError: the kernel refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:  # open for writing, whatever mode the umask leaves
        file.write(content)
        os.fchmod(descriptor, mode)
