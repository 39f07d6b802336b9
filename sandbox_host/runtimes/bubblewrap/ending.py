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

#: Between two looks at what is left of a box, and for how long at most. Seconds.
_PAUSE_SECONDS, _LONGEST_SECONDS = 0.01, 60.0


def end_soon(init: int, pidfd: int) -> None:
    """Make a box end to whose PID 1 SIGKILL was sent; returns when that has ended.

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
    killed: set[int] = set()
    until = time.monotonic() + _LONGEST_SECONDS
    # While threads of PID 1 end, its children pass from one to another, and a look may miss some.
    while not _has_ended(pidfd, _PAUSE_SECONDS if killed else 0) and time.monotonic() < until:
        hasten(init)
        alive = set(descendants(init))
        fresh = {pid for pid in alive - killed if _kill_in(namespace, pid)}
        # Each must run once more, too, and one that has given up its turns hardly does. Those of
        # before again: some were just dying when they were hastened.
        for pid in fresh | (alive & killed):
            hasten(pid)
        # Only now: what still runs would take the time of the CPUs that it is let onto.
        unbind({init, *fresh})
        killed |= {init, *fresh}


def _has_ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1e3))


def _kill_in(namespace: str, pid: int) -> bool:
    """Kill a process if it is in this PID namespace: the PID may be another's by now."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return True
        finally:
            os.close(pidfd)
    return False
