"""Kills a host's boxes when the host is gone, however it ended; this module is also a program.

``bwrap`` sets its parent-death signals late: if its first process is killed before it has told the
second one to continue, the second waits for ever. So each host has a keeper, a process that waits
for the end of a pipe which only the living host holds open. Then it kills the boxes that the host
has named on that pipe, and every process marked with the host's name, and removes the folder with
the boxes' files. What sets a box up has the mark in its arguments, whatever it executes on the way;
a box is named before its program starts, which could write over the arguments of its PID 1.

As a program, it needs only the standard library: ``python3 -I -S -c … NAME FOLDER``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: An option of ``bwrap`` without effect, used as a mark; the prefix of its value, the host's name.
OPTION, PREFIX = "--unsetenv", "qlp-box-"

#: Bytes of a command line to read. The mark follows the path of ``bwrap``, in front of which are at
#: most the commands of shells that enter groups and set quotas.
_BEGINNING = 16384

#: Scans in a row that must find nothing before the keeper ends; seconds between scans.
_EMPTY_SCANS = 25
_PAUSE_SECONDS = 0.02

#: How often it tries to remove the folder: others that remove what dead hosts leave may be at it.
_REMOVALS = 100


class Keeper:
    """The keeper of this host's boxes.

    Args:
        host: name of this host process, see `sandbox_host.linux.processes.host_tag`.
        python: the interpreter that executes the keeper.
        folder: what it removes at the end.

    Attributes:
        mark: the first options for ``bwrap``.
    """

    def __init__(self, host: str, python: str, folder: Path) -> None:
        """Start the keeper."""
        self.mark = [OPTION, PREFIX + host]
        self._process = subprocess.Popen(
            [python, "-I", "-S", "-c", Path(__file__).read_text(), host, folder],
            stdin=subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)

    def hold(self, init: int) -> Callable[[], None]:
        """Name a box's PID 1, before its program starts; what it returns is called at its end."""
        self._say(f"+{init}")
        return lambda: self._say(f"-{init}")

    def _say(self, what: str) -> None:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return  # it has killed all boxes
        # It is only not read if the keeper has ended, or hardly gets a CPU.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._process.stdin.fileno(), what.encode() + b"\n")

    def close(self) -> None:
        """End the keeper, which kills any box that is left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def kill_boxes(whose: Callable[[str], bool]) -> int:
    """Kill the boxes of those hosts whose name satisfies ``whose``; the number of boxes."""
    killed = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (host := _host_of(entry)) is not None and whose(host):
            try:
                os.kill(int(entry), signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
            hasten(int(entry))
            killed += 1
    return killed


def hasten(pid: int) -> None:
    """Let a killed process run at once, all its threads: each must run once more to end.

    A program can give up the turns of its box's PID 1, crowd it out, and put threads into it; the
    other processes of the box only end once that one has.
    """
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            hasten_thread(int(thread))


def hasten_thread(thread: int) -> None:
    """The same for one thread."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        return
    # Without the right to that: as much as is possible of what any process has.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, 0)
    with contextlib.suppress(OSError), open(f"/proc/{thread}/autogroup", "w") as file:
        file.write("0")
    with contextlib.suppress(OSError):
        os.sched_setaffinity(thread, os.sched_getaffinity(0))


def _host_of(pid: str) -> str | None:
    try:
        # Not of a program's own processes: to read their arguments may wait for them.
        if not _sets_up(pid):
            return None
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read(_BEGINNING).decode(errors="replace").split("\0")
    except OSError:
        return None
    for option, value in itertools.pairwise(arguments):
        if option == OPTION and value.startswith(PREFIX):
            return value.removeprefix(PREFIX)
    return None


def _sets_up(pid: str) -> bool:
    """Whether a process is a box's PID 1, or in this PID namespace; proc_pid_status(5)."""
    with open(f"/proc/{pid}/status", "rb") as file:
        numbers = file.read().partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    return len(numbers) < 2 or numbers[1:] == [b"1"]


def _named_until_the_end() -> dict[int, int]:
    """The boxes that the host has when its pipe ends: of each the PID, and a pidfd."""
    boxes: dict[int, int] = {}
    unread = b""
    while read := os.read(0, 65536):
        *lines, unread = (unread + read).split(b"\n")
        for line in lines:
            pid = int(line[1:])
            if (ended := boxes.pop(pid, None)) is not None:
                os.close(ended)
            if line.startswith(b"+"):
                with contextlib.suppress(OSError):
                    boxes[pid] = os.pidfd_open(pid)
    return boxes


def main() -> None:
    """Wait for the host's end, then kill boxes until none is left."""
    host, folder = sys.argv[1:]
    for pid, pidfd in _named_until_the_end().items():
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            hasten(pid)
    empty = 0
    while empty < _EMPTY_SCANS:
        empty = 0 if kill_boxes(lambda name: name == host) else empty + 1
        time.sleep(_PAUSE_SECONDS)
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
