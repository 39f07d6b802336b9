"""The shell inside a bubblewrap box: it reads one line, executes it, and becomes the program.

It has the program's user, namespaces, filter and descriptors and nothing else, and there is no
other helper process. It writes a mark to stdout when it waits, and another when the program starts.
It also sets the limits, which takes no privileges and causes no race: lowering a limit is always
allowed, and processes are counted within the box's own user namespace.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from domain.contracts.job import JobLimits
from sandbox_host.runtimes.base import MAX_OPEN_FILES

#: Written when the box is set up, and before the program starts.
MARKS = _READY, _STARTED = b"\x06", b"\x07"

#: A quoted line break, within the line.
_BREAK = "'\"$n\"'"

_WAIT = (
    f"ulimit -c 0 && ulimit -n {MAX_OPEN_FILES} && n='\n'"
    f" && printf '\\{_READY[0]:03o}' && IFS= read -r line && eval \"$line\""
)

#: The process limit is -p in dash, -u in bash.
_WITHOUT_GROUP = (
    "{{ ulimit -u {processes} 2>/dev/null || ulimit -p {processes}; }} && ulimit -d {kibibytes} && "
)


def waiting() -> list[str]:
    """The shell's command; its environment is empty."""
    return ["/bin/sh", "-c", _WAIT]


def line(
    command: Sequence[str], environment: Mapping[str, str], limits: JobLimits, *, has_group: bool
) -> bytes:
    """The line to execute, with its line break.

    The shell reads byte by byte, since what follows is for the program to read. That takes 0.6 ms
    for 1 KB, and 60 ms for the longest arguments allowed.

    Args:
        command: the program's command.
        environment: its whole environment; the names need no quoting.
        limits: the program's.
        has_group: whether a cgroup limits memory and processes.
    """
    text = ""
    if not has_group:
        text = _WITHOUT_GROUP.format(
            processes=limits.processes + 1,  # the box's PID 1 is one more
            # Private memory per process; the watchdog keeps the total well below it.
            kibibytes=(2 * limits.memory_bytes + 256 * 1024**2) // 1024,
        )
    variables = " ".join(f"{name}={_quoted(value)}" for name, value in environment.items())
    words = " ".join(map(_quoted, command))
    text += f"export {variables} && printf '\\{_STARTED[0]:03o}' && exec {words}\n"
    return text.encode()


def _quoted(word: str) -> str:
    """``word`` quoted for a shell, on one line."""
    return shlex.quote(word).replace("\n", _BREAK)
