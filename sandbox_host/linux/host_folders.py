"""Folders of a host process on its machine, which a later host finds when this one has died."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from sandbox_host.linux.processes import host_tag, is_alive

#: Where one can be made, if any can; all are executable by everybody, and one may be.
PLACES = ("/run", "/var/tmp", "/tmp", "/dev/shm")  # noqa: S108 - made by mkdtemp


def new_folders(prefix: str, places: Iterable[str], tried: list[str]) -> Iterator[Path]:
    """A new folder in each of ``places`` in turn; ``tried`` gets those where none can be made."""
    for place in places:
        try:
            yield Path(tempfile.mkdtemp(prefix=f"{prefix}{host_tag()}-", dir=place))
        except OSError as error:
            tried.append(f"{place}: {error.strerror}")


def reap_folders(prefix: str) -> int:
    """Remove those that hosts of the past have left; how many."""
    removed = 0
    for folder in (found for place in PLACES for found in Path(place).glob(f"{prefix}*")):
        tag = folder.name.removeprefix(prefix).rpartition("-")[0]
        with contextlib.suppress(FileNotFoundError):  # another host reaps as well
            if folder.is_dir() and folder.stat().st_uid == os.geteuid() and not is_alive(tag):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    return removed
