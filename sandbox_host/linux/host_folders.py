"""Folders named after the host process that made them, so that a later host can remove them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from sandbox_host.linux.processes import host_tag, is_alive

#: Where to try to make one; programs in these folders can be executed by every user, unless the
#: file system is mounted noexec.
PLACES = ("/run", "/var/tmp", "/tmp", "/dev/shm")  # noqa: S108 - made by mkdtemp


def new_folders(prefix: str, places: Iterable[str], tried: list[str]) -> Iterator[Path]:
    """Make a folder in each of ``places`` in turn; reasons for failures are added to ``tried``."""
    for place in places:
        try:
            yield Path(tempfile.mkdtemp(prefix=f"{prefix}{host_tag()}-", dir=place))
        except OSError as error:
            tried.append(f"{place}: {error.strerror}")


def reap_folders(prefix: str) -> int:
    """Remove the folders that dead hosts have left; their number."""
    removed = 0
    for folder in (found for place in PLACES for found in Path(place).glob(f"{prefix}*")):
        tag = folder.name.removeprefix(prefix).rpartition("-")[0]
        with contextlib.suppress(FileNotFoundError):  # another host may reap at the same time
            if folder.is_dir() and folder.stat().st_uid == os.geteuid() and not is_alive(tag):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    return removed
