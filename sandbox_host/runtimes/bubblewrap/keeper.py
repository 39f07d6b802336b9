"""Ends a host's boxes when the host is gone, however it went; also a program of its own.

``bwrap`` arms its parent-death signals late: when its first process is killed before the second is
told to go on, that one waits for ever. So each host has a keeper, a process that does nothing but
wait for the end of a pipe that only a living host holds open, and then kills what bears the host's
name: every box's PID 1 keeps the arguments that ``bwrap`` was started with. Last it removes the
folder with the boxes' files.

As a program it needs nothing but the standard library of some Python:
``python3 -I -S -c … NAME FOLDER``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: An option of ``bwrap`` that does nothing, and what its value, the host's name, begins with.
OPTION, PREFIX = "--unsetenv", "qlp-box-"

#: Bytes of a command line within which the option stands, behind the path of ``bwrap``.
_BEGINNING = 1024

#: Scans that must find nothing before a keeper believes that nothing is left, seconds between.
_EMPTY_SCANS = 5
_PAUSE_SECONDS = 0.02


class Keeper:
    """The keeper of this host's boxes.

    Args:
        host: name of this host process, `sandbox_host.linux.processes.host_tag`.
        python: executes the keeper.
        folder: to be removed in the end.

    Attributes:
        mark: the first options to start ``bwrap`` with.
    """

    def __init__(self, host: str, python: str, folder: Path) -> None:
        """Start it."""
        self.mark = [OPTION, PREFIX + host]
        self._process = subprocess.Popen(
            [python, "-I", "-S", "-c", Path(__file__).read_text(), host, folder],
            stdin=subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
        )

    def close(self) -> None:
        """End it, and with it any box that is left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def kill_boxes(whose: Callable[[str], bool]) -> int:
    """Kill the boxes whose hosts' names satisfy ``whose``; how many there were."""
    killed = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (host := _host_of(entry)) is not None and whose(host):
            try:
                os.kill(int(entry), signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
            killed += 1
    return killed


def _host_of(pid: str) -> str | None:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read(_BEGINNING).decode(errors="replace").split("\0")
    except OSError:
        return None
    if arguments[1:2] != [OPTION] or not arguments[2].startswith(PREFIX):
        return None
    return arguments[2].removeprefix(PREFIX)


def main() -> None:
    """Wait for the host's end, then kill until nothing is left."""
    host, folder = sys.argv[1:]
    while os.read(0, 1):
        pass
    empty = 0
    while empty < _EMPTY_SCANS:
        empty = 0 if kill_boxes(lambda name: name == host) else empty + 1
        time.sleep(_PAUSE_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
