"""Reads ``/proc/self/mountinfo``; see proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MountInfo:
    """One mount that this process sees.

    Attributes:
        device: ``major:minor`` of the file system, as in ``st_dev``.
        root: the folder of the file system that is mounted.
        point: where it is mounted.
        options: of the mount.
        kind: the file system's type.
        super_options: of the file system.
    """

    device: str
    root: str
    point: Path
    options: tuple[str, ...]
    kind: str
    super_options: tuple[str, ...]


def read_mounts() -> Iterator[MountInfo]:
    """The mounts, in the order in which they were made."""
    # Only spaces, tabs and newlines are escaped in the names of folders.
    for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n")[:-1]:
        left, _, right = line.partition(" - ")
        device, root, point, options = left.split(" ")[2:6]
        kind, _, super_options = right.split(" ", 2)
        yield MountInfo(
            device,
            root,
            Path(point.replace("\\040", " ")),
            tuple(options.split(",")),
            kind,
            tuple(super_options.split(",")),
        )
