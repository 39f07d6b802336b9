"""The shell inside a bubblewrap box: it waits for one line, obeys it, and becomes the program.

Being the box's own, it has the program's user, namespaces, filter and descriptors and nothing
else: there is no helper beside the program. It marks on stdout when it waits, and when the program
begins. Limits are set here, so that neither privileges nor a race are involved: lowering a limit is
always allowed, and processes are counted within the box's own user namespace.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from domain.contracts.job import JobLimits
from sandbox_host.runtimes.base import MAX_OPEN_FILES

#: Written when the box is laid out, and before the program begins.
MARKS = _READY, _STARTED = b"\x06", b"\x07"

#: What a quoted line break is within the line.
_BREAK = "'\"$n\"'"

_WAIT = (
    f"ulimit -c 0 && ulimit -n {MAX_OPEN_FILES} && n='\n'"
    f" && printf '\\{_READY[0]:03o}' && IFS= read -r line && eval \"$line\""
)

#: dash calls the process limit -p, bash calls it -u.
_WITHOUT_GROUP = (
    "{{ ulimit -u {processes} 2>/dev/null || ulimit -p {processes}; }} && ulimit -d {kibibytes} && "
)


def waiting() -> list[str]:
    """The command that waits; its environment is empty."""
    return ["/bin/sh", "-c", _WAIT]


def line(
    command: Sequence[str], environment: Mapping[str, str], limits: JobLimits, *, has_group: bool
) -> bytes:
    """What it is to do, with the line break that ends it.

    The shell reads byte by byte, since what follows is the program's to read: 0.6 ms for 1 KB, and
    60 ms for the longest arguments there may be.

    Args:
        command: becomes the program.
        environment: all of it; the names are plain ones.
        limits: the program's.
        has_group: a cgroup holds the limits on memory and processes.
    """
    text = ""
    if not has_group:
        text = _WITHOUT_GROUP.format(
            processes=limits.processes + 1,  # the box's PID 1 is one more
            # Of private memory for each process; the watchdog keeps the total well below it.
            kibibytes=(2 * limits.memory_bytes + 256 * 1024**2) // 1024,
        )
    variables = " ".join(f"{name}={_quoted(value)}" for name, value in environment.items())
    words = " ".join(map(_quoted, command))
    text += f"export {variables} && printf '\\{_STARTED[0]:03o}' && exec {words}\n"
    return text.encode()


def _quoted(word: str) -> str:
    """``word`` for a shell, in one line."""
    return shlex.quote(word).replace("\n", _BREAK)
