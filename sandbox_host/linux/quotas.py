"""Keeps a box from using up what the kernel grants its user as a whole.

Where this host is no root, all boxes are one user's, its own. Of a user namespace around each the
kernel counts inotify instances and watches apart, and holds a limit that is set there; signals that
wait are held by a limit of the process. Nothing holds the pages of pipes, descriptors on their way
through sockets, and epoll's watches: those stay one quota for all of the user's processes.

See user_namespaces(7), namespaces(7) on ``/proc/sys/user``, and setrlimit(2).
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

#: What is shared by all boxes of one user, for ``/health``.
SHARED = "pages of pipes, descriptors in flight, epoll watches"

#: Settings of a namespace, and the user's own limits that they are shares of.
_LIMITS = {
    "max_inotify_instances": Path("/proc/sys/fs/inotify/max_user_instances"),
    "max_inotify_watches": Path("/proc/sys/fs/inotify/max_user_watches"),
}
_SHARE = 8

#: Signals and timers of one box that may wait.
PENDING_SIGNALS = 1024

_UNSHARE = "/usr/bin/unshare"
_SET = 'while [ "$1" != - ]; do echo "$2" > "/proc/sys/user/$1" || exit 125; shift 2; done'
_PROBE_SECONDS = 5


class Quotas:
    """What one box of an ordinary user may take of that user's.

    Attributes:
        held: whether this machine can hold them.
    """

    def __init__(self) -> None:
        self._limits = []
        with contextlib.suppress(OSError, ValueError):
            for name, path in _LIMITS.items():
                self._limits += [name, f"{max(1, int(path.read_text()) // _SHARE)}"]
        self.held = bool(self._limits) and self._works()

    def _works(self) -> bool:
        if shutil.which(_UNSHARE) is None:
            return False
        try:
            done = subprocess.run(
                self._command(["true"]), capture_output=True, timeout=_PROBE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def _command(self, command: list[str]) -> list[str]:
        script = f'{_SET}; shift; exec "$@"'
        options = ["--user", "--map-root-user"]
        return [_UNSHARE, *options, "/bin/sh", "-c", script, "sh", *self._limits, "-", *command]

    def around(self, command: list[str]) -> list[str]:
        """``command`` in a user namespace that has these limits; the same process becomes it."""
        return self._command(command) if self.held else command

    @staticmethod
    def limit(pids: Iterable[int]) -> None:
        """Hold what processes hold themselves, before they become the program."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(
                    pid, resource.RLIMIT_SIGPENDING, (PENDING_SIGNALS, PENDING_SIGNALS)
                )

    def said(self) -> str:
        """How they are held, for ``/health``."""
        inotify = "" if self.held else "inotify instances and watches, "
        return f"of the host's own user; shared by all boxes: {inotify}{SHARED}"
