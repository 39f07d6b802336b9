"""User IDs for boxes: each box has its own, which no other host on this machine uses meanwhile.

The kernel has many quotas per user and not per box: inotify instances, pipe pages, pending signals,
descriptors in flight, epoll watches, keys. If boxes shared a user, one could exhaust these for all.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass


class NoUserFree(Exception):
    """All user IDs of a range are in use."""


class BoxUser:
    """A user ID reserved for one box until `close`.

    The reservation is an abstract socket's name, which the kernel frees when this process ends.
    """

    def __init__(self, uid: int, lock: socket.socket) -> None:
        self.uid = uid
        self._lock = lock

    def close(self) -> None:
        """Free it for another box; by then nothing may run under it any more."""
        self._lock.close()


@dataclass(frozen=True)
class UserRange:
    """The user IDs of one runtime's boxes, apart from those of people and of other runtimes."""

    first: int
    count: int

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, int) and self.first <= uid < self.first + self.count

    def take(self) -> BoxUser:
        """Reserve a free one.

        Raises:
            NoUserFree: all are in use.
        """
        for uid in self._from_here():
            user = self.claim(uid)
            if user is not None:
                return user
        last = self.first + self.count - 1
        raise NoUserFree(f"the user IDs {self.first} to {last} are all in use")

    def claim(self, uid: int) -> BoxUser | None:
        """Reserve this one; None if it is in use."""
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0qlp-user-{uid}")
        except OSError:
            lock.close()
            return None
        return BoxUser(uid, lock)

    def _from_here(self) -> Iterator[int]:
        """All IDs, from a start that depends on the PID, so that hosts rarely try the same ones."""
        start = os.getpid() % self.count
        yield from range(self.first + start, self.first + self.count)
        yield from range(self.first, self.first + start)


BUBBLEWRAP_USERS = UserRange(63_000, 1_000)
#: What runs under these is killed when no host claims it, so nothing else may use them: systemd has
#: ranges of its own around this one (https://systemd.io/UIDS-GIDS/), and gives it to nobody.
CONFINED_USERS = UserRange(60_706, 478)
#: Each of these has an entry in the images' ``/etc/passwd``; see ``images/finish-root``.
DOCKER_USERS = UserRange(62_000, 512)
