"""Makes a killed box end soon, whatever its program did to hold that up.

The kernel ends a box's other processes when its PID 1 ends, for which that must run once more. The
program has the same user: it can give up the turns of PID 1, and have hundreds of processes that
compete with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from sandbox_host.linux.cpus import unbind
from sandbox_host.linux.watchdog import descendants
from sandbox_host.runtimes.bubblewrap.keeper import hasten

#: A box that ends within this time needs no help. Seconds.
_PATIENCE_SECONDS = 0.05

#: How long new processes of a box may turn up, which none can once its PID 1 has run. Seconds.
_LONGEST_SECONDS = 10.0


def end_soon(init: int, pidfd: int) -> None:
    """Make a box end of whose PID 1 SIGKILL was sent; returns when all of it was killed.

    It blocks: call it in a thread.

    Args:
        init: the PID of the box's PID 1 in this host's PID namespace.
        pidfd: of that process.
    """
    if _has_ended(pidfd, _PATIENCE_SECONDS):
        return
    try:
        namespace = os.readlink(f"/proc/{init}/ns/pid")
    except OSError:
        return  # it has just ended
    hasten(init)
    killed: set[int] = set()
    until = time.monotonic() + _LONGEST_SECONDS
    while not _has_ended(pidfd, 0) and time.monotonic() < until:
        fresh = set(descendants(init)) - killed
        if not fresh:
            break
        for pid in fresh:
            _kill_in(namespace, pid)
        killed |= fresh
    # Only now: what still runs would take the time of the CPUs that it is let onto.
    unbind(killed)


def _has_ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1e3))


def _kill_in(namespace: str, pid: int) -> None:
    """Kill a process if it is in this PID namespace: the PID may be another's by now."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
