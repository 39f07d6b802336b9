"""Keeps a box from exhausting quotas that the kernel has per user, and what they take of memory.

If this host is not root, all boxes run as the host's own user. For a user namespace around each
box, the kernel counts inotify instances and watches separately, and enforces limits set for that
namespace. Pending signals have a resource limit per process. Nothing limits pipe pages, descriptors
in flight through sockets, and epoll watches: all of the user's processes share these quotas.

See user_namespaces(7), namespaces(7) on ``/proc/sys/user``, and setrlimit(2).
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

#: The quotas that all boxes of one user share, for ``/health``.
SHARED = "pages of pipes, descriptors in flight, epoll watches"

#: Limits of a namespace, each with the file that has the user's limit, and the part of it that a
#: box gets: 4 of 128 instances, each of which may hold 8 MB that nothing counts without a cgroup.
_LIMITS = {
    "max_inotify_instances": (Path("/proc/sys/fs/inotify/max_user_instances"), 32),
    "max_inotify_watches": (Path("/proc/sys/fs/inotify/max_user_watches"), 8),
}

#: Pending signals and timers allowed for one box.
PENDING_SIGNALS = 1024

_UNSHARE = "/usr/bin/unshare"
_SET = 'while [ "$1" != - ]; do echo "$2" > "/proc/sys/user/$1" || exit 125; shift 2; done'
_PROBE_SECONDS = 5


class Quotas:
    """Limits on what one box may take of an ordinary user's quotas.

    Args:
        as_user: gives the command that executes another as a box's user.

    Attributes:
        held: whether this machine can enforce them.
    """

    def __init__(self, as_user: Callable[[list[str]], list[str]] = list) -> None:
        self._limits = []
        self._as_user = as_user
        with contextlib.suppress(OSError, ValueError):
            for name, (path, parts) in _LIMITS.items():
                self._limits += [name, f"{max(1, int(path.read_text()) // parts)}"]
        self.held = bool(self._limits) and self._works()

    def _works(self) -> bool:
        if shutil.which(_UNSHARE) is None:
            return False
        try:
            command = self._as_user(self._command(["true"]))
            done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def _command(self, command: list[str]) -> list[str]:
        script = f'{_SET}; shift; exec "$@"'
        options = ["--user", "--map-root-user"]
        return [_UNSHARE, *options, "/bin/sh", "-c", script, "sh", *self._limits, "-", *command]

    def around(self, command: list[str]) -> list[str]:
        """The command that runs ``command`` in a user namespace with these limits, by exec."""
        return self._command(command) if self.held else command

    @staticmethod
    def limit(pids: Iterable[int]) -> None:
        """Set the per-process limits of ``pids``, before they become the program."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(
                    pid, resource.RLIMIT_SIGPENDING, (PENDING_SIGNALS, PENDING_SIGNALS)
                )

    def description(self) -> str:
        """How the quotas are divided, for ``/health``."""
        if os.geteuid() == 0:
            return "of a user per box"
        inotify = "" if self.held else "inotify instances and watches, "
        return f"of the host's own user; shared by all boxes: {inotify}{SHARED}"
