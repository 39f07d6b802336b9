"""PID 1 of a docker box. Its source text is the container's command; it never runs in the host.

It reads one job header from stdin, lays the files, starts the program as its child, and hands the
child's end on as its own exit status, as shells do. A program that *were* PID 1 would ignore its
own SIGKILL. Stdin stays open for as long as the host lives: its end means that the host is gone,
and PID 1 then ends, which kills everything in the box. Standard library only, of any Python 3.9+.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Any

_LENGTH_DIGITS = 12
_STARTUP_FAILED = 125


def _read_exactly(count: int) -> bytes:
    parts = []
    while count:
        part = os.read(0, min(count, 65536))
        if not part:
            os._exit(_STARTUP_FAILED)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _lay(header: dict[str, Any]) -> None:
    for folder in header["folders"]:
        os.mkdir(folder, 0o755)
    os.chdir(header["workspace"])
    for path, content in header["files"].items():
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.encode("latin-1"))


def _start(header: dict[str, Any]) -> int:
    stdin = os.memfd_create("stdin")
    with open(stdin, "wb", closefd=False) as file:
        file.write(header["stdin"].encode("latin-1"))
    os.lseek(stdin, 0, os.SEEK_SET)
    pid = os.fork()
    if pid:
        os.close(stdin)
        return pid
    try:
        # Where memory runs out the program is to die of it, not this process.
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(stdin, 0)
        os.setsid()
        command = header["command"]
        os.execvpe(command[0], command, header["environment"])  # noqa: S606 - no shell on purpose
    except OSError as error:
        os.write(2, f"cannot start the program: {error}\n".encode())
    os._exit(_STARTUP_FAILED)


def _wait(pid: int, seconds: float) -> int:
    """Reap orphans until ``pid`` ends; give up when the host is gone or long after the deadline."""
    watch = select.poll()
    watch.register(os.pidfd_open(pid), select.POLLIN)
    watch.register(0, select.POLLIN)
    ready = watch.poll(seconds * 1000)
    if not ready or all(descriptor == 0 for descriptor, _ in ready):
        os._exit(_STARTUP_FAILED)
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main() -> None:
    """Run the one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    header = json.loads(_read_exactly(int(_read_exactly(_LENGTH_DIGITS))))
    os.environ.clear()
    _lay(header)
    sys.exit(_wait(_start(header), header["seconds"]))


if __name__ == "__main__":
    main()
