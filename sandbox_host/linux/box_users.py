"""User ids for boxes: one each, which no other host of this machine uses meanwhile.

The kernel counts much by user and not by box: inotify instances, pages of pipes, pending signals,
descriptors on their way, watches, keys. Boxes of one user would share each of those quotas, and one
could use it up for all.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass


class NoUserFree(Exception):
    """All user ids of a range are taken."""


class BoxUser:
    """A user id that is one box's until `close`.

    Held by an abstract socket's name, which the kernel frees when this process ends.
    """

    def __init__(self, uid: int, lock: socket.socket) -> None:
        self.uid = uid
        self._lock = lock

    def close(self) -> None:
        """Let another box have it; nothing may run under it any more."""
        self._lock.close()


@dataclass(frozen=True)
class UserRange:
    """The user ids of one runtime's boxes, away from those of people and of other runtimes."""

    first: int
    count: int

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, int) and self.first <= uid < self.first + self.count

    def take(self) -> BoxUser:
        """One that is free.

        Raises:
            NoUserFree: see there.
        """
        for uid in self._from_here():
            user = self.claim(uid)
            if user is not None:
                return user
        last = self.first + self.count - 1
        raise NoUserFree(f"the user ids {self.first} to {last} are all in use")

    def claim(self, uid: int) -> BoxUser | None:
        """Take that one; None where it is taken already."""
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0qlp-user-{uid}")
        except OSError:
            lock.close()
            return None
        return BoxUser(uid, lock)

    def _from_here(self) -> Iterator[int]:
        """All, beginning where other hosts, perhaps unseen by this one, probably do not."""
        start = os.getpid() % self.count
        yield from range(self.first + start, self.first + self.count)
        yield from range(self.first, self.first + start)


BUBBLEWRAP_USERS = UserRange(60_000, 1_000)
CONFINED_USERS = UserRange(61_000, 1_000)
#: Images name each of these; see ``images/finish-root``.
DOCKER_USERS = UserRange(62_000, 512)
