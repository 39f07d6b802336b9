"""Reads, writes and deletes in a cgroup file system."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

from sandbox_host.linux.processes import is_alive

log = logging.getLogger(__name__)

#: The beginning of every host's group name; the host's tag follows.
PREFIX = "qlp-sandbox-"

#: Microseconds; the kernel's default CFS period.
CPU_PERIOD = 100_000


def write(path: Path, value: int | str) -> None:
    """Write a control file; the kernel refuses invalid values with OSError."""
    path.write_text(f"{value}")


def read_number(path: Path) -> int | None:
    """The number in a file; None if the kernel has no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def read_scaled(path: Path | None, divisor: float) -> float | None:
    """`read_number` divided by ``divisor``; None if there is nothing to read."""
    number = None if path is None else read_number(path)
    return None if number is None else number / divisor


def read_field(path: Path, name: str) -> int | None:
    """The value of ``name`` in a file with a ``name value`` pair per line; None if it has none."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return None


def read_pids(folder: Path) -> list[int]:
    """The PIDs in a group; empty if there is no such group."""
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def reap_folders(parent: Path) -> int:
    """Remove the groups below ``parent`` whose hosts are dead; the number of boxes in them."""
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
        except FileNotFoundError:
            continue  # another host was faster
        except OSError as error:
            log.warning("a dead host's cgroup could not be removed: %s", error)
    return boxes


def close_group(folder: Path) -> None:
    """Delete a host's own group; if boxes are still in it, a later host will reap it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove_group(folder: Path, seconds: float = 2.0) -> None:
    """Kill the processes in ``folder`` and delete it; killed processes take a moment to leave it.

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
    """Kill the processes in ``folder``, and delete the groups that an engine made below it."""
    for pid in read_pids(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        for child in [entry for entry in folder.iterdir() if entry.is_dir()]:
            _empty(child)
            child.rmdir()
