"""Reading, writing and deleting in a cgroup file system."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

from sandbox_host.linux.processes import is_alive

log = logging.getLogger(__name__)

#: What the groups of all hosts are called; the rest of the name is the host's tag.
PREFIX = "qlp-sandbox-"

#: Microseconds; the kernel's default CFS period.
CPU_PERIOD = 100_000


def write(path: Path, value: int | str) -> None:
    """Set a control file; the kernel refuses wrong values with OSError."""
    path.write_text(f"{value}")


def read_number(path: Path) -> int | None:
    """The number in a file; None where the kernel has no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def read_scaled(path: Path | None, divisor: float) -> float | None:
    """`read_number` divided by ``divisor``; None where there is nothing to read."""
    number = None if path is None else read_number(path)
    return None if number is None else number / divisor


def read_field(path: Path, name: str) -> int | None:
    """The number after ``name`` in a file of ``name value`` lines; None if it is not there."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return None


def read_pids(folder: Path) -> list[int]:
    """The processes in a group; empty when it is not there."""
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def reap_folders(parent: Path) -> int:
    """Remove the groups below ``parent`` whose hosts are dead; how many boxes those had."""
    boxes = 0
    for folder in parent.glob(f"{PREFIX}*"):
        tag = folder.name.removeprefix(PREFIX).removesuffix(".host")
        if is_alive(tag.rpartition("-")[0]):
            continue
        try:
            for box in [entry for entry in folder.iterdir() if entry.is_dir()]:
                remove_group(box)
                boxes += 1
            remove_group(folder)
        except OSError as error:
            log.warning("a dead host's cgroup stays: %s", error)
    return boxes


def close_group(folder: Path) -> None:
    """Delete a host's own group; while boxes are still in it, the next host's reaping will."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove_group(folder: Path, seconds: float = 2.0) -> None:
    """Kill what is in ``folder`` and delete it; a killed process takes a moment to leave.

    Raises:
        OSError: it could not be deleted within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            _empty(folder)
            time.sleep(0.002)
        else:
            return


def _empty(folder: Path) -> None:
    """Kill what is in ``folder`` and delete the groups that an engine made below it."""
    for pid in read_pids(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        for child in [entry for entry in folder.iterdir() if entry.is_dir()]:
            _empty(child)
            child.rmdir()
