"""User ids for confined programs: one each, which no other host of this machine uses meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

#: The first user id and how many there are; away from those of bubblewrap's boxes and of people.
FIRST_UID = 61_000
_UIDS = 1_000


class NoUserFree(Exception):
    """All user ids are taken."""


@contextlib.contextmanager
def fresh_user() -> Iterator[int]:
    """A user id without processes, for as long as the context lasts.

    Held by an abstract socket's name, which the kernel frees when this process ends.

    Raises:
        NoUserFree: see there.
    """
    for uid in range(FIRST_UID, FIRST_UID + _UIDS):
        lock = _lock(uid)
        if lock is not None:
            with lock:
                yield uid
            return
    raise NoUserFree(f"the user ids {FIRST_UID} to {FIRST_UID + _UIDS - 1} are all in use")


def kill_strays() -> int:
    """Kill processes of user ids that no living host holds; how many users had some."""
    found: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError):
                uid = os.stat(f"/proc/{entry}").st_uid
                if FIRST_UID <= uid < FIRST_UID + _UIDS:
                    found.setdefault(uid, []).append(int(entry))
    killed = 0
    for uid, pids in found.items():
        lock = _lock(uid)
        if lock is not None:
            with lock:
                _kill(pids)
            killed += 1
    return killed


def _lock(uid: int) -> socket.socket | None:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(f"\0qlp-confined-{uid}")
    except OSError:
        lock.close()
        return None
    return lock


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
