"""Folders and files whose modes are as said, whatever this process's umask is."""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(path: Path, mode: int, *, exist_ok: bool = False) -> None:
    """Make one folder, whose parent is there.

    Args:
        path: of the folder.
        mode: its permissions.
        exist_ok: one that is there already gets the mode as well.

    Raises:
        OSError: the kernel refuses.
    """
    path.mkdir(mode=mode, exist_ok=exist_ok)
    path.chmod(mode)


def make_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file anew.

    Raises:
        OSError: the kernel refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:  # writable now, whatever mode the umask leaves
        file.write(content)
        os.fchmod(descriptor, mode)
