"""Kills what dead hosts have left running under the user IDs of confined programs."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from sandbox_host.linux.box_users import CONFINED_USERS
from sandbox_host.linux.processes import stat_fields
from sandbox_host.runtimes.confined.process import LAUNCHER_SOURCE

#: What the command line of supervisors contains.
_LAUNCHER = LAUNCHER_SOURCE[:200].encode()


def kill_strays() -> int:
    """Kill the processes of user IDs that no living host has reserved; the number of users.

    A host in another network namespace cannot be seen to have reserved one. So what still has its
    supervisor, which dies with its host, is left alone.
    """
    found: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError):
                uid = os.stat(f"/proc/{entry}").st_uid
                if uid in CONFINED_USERS:
                    found.setdefault(uid, []).append(int(entry))
    killed = 0
    for uid, pids in found.items():
        if any(map(_is_supervised, pids)):
            continue
        user = CONFINED_USERS.claim(uid)
        if user is not None:
            with contextlib.closing(user):
                _kill(pids)
            killed += 1
    return killed


def _is_supervised(pid: int) -> bool:
    """Whether a process of another user, which executes `launcher`, is above this one."""
    while pid > 1:
        try:
            pid = int(stat_fields(f"/proc/{pid}")[1])
            status = Path(f"/proc/{pid}/status").read_bytes()  # text would end lines in its name
            if int(status.partition(b"\nUid:")[2].split()[0]) in CONFINED_USERS:
                continue
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if _LAUNCHER in file.read(2 * len(_LAUNCHER)):
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return False
    return False


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
