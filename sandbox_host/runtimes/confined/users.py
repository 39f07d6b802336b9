"""Kills what dead hosts have left running under the user IDs of confined programs."""

from __future__ import annotations

import contextlib
import os
import signal

from sandbox_host.linux.box_users import CONFINED_USERS


def kill_strays() -> int:
    """Kill the processes of user IDs that no living host has reserved; the number of users."""
    found: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError):
                uid = os.stat(f"/proc/{entry}").st_uid
                if uid in CONFINED_USERS:
                    found.setdefault(uid, []).append(int(entry))
    killed = 0
    for uid, pids in found.items():
        user = CONFINED_USERS.claim(uid)
        if user is not None:
            with contextlib.closing(user):
                _kill(pids)
            killed += 1
    return killed


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
