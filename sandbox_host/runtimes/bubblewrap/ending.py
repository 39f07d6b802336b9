"""Makes a killed box end soon, whatever its program did to hold that up.

The kernel ends a box's other processes when its PID 1 ends, for which that must run once more, and
PID 1 waits until each of them has run once more. The program has the same user: it can give up all
their turns, and have hundreds of processes that compete with them. A process without turns may even
be in the middle of its end where nobody finds it any more, and nobody can give it one: so each gets
turns as soon as it has been killed, before PID 1 is.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from sandbox_host.linux.cpus import threads_of, unbind
from sandbox_host.linux.processes import descendants
from sandbox_host.runtimes.bubblewrap.keeper import hasten, hasten_thread

#: How long PID 1 is spared while the processes below it are killed; and a box that ends within so
#: long after that needs no more help. Seconds.
_SPARED_SECONDS, _PATIENCE_SECONDS = 0.5, 0.05

#: Between two looks at what is left of a box, and for how long at most. Seconds.
_PAUSE_SECONDS, _LONGEST_SECONDS = 0.01, 60.0


def end_soon(init: int, pidfd: int, kill: Callable[[], object]) -> None:
    """Make a box end; returns when its PID 1 has ended.

    It blocks: call it in a thread.

    Args:
        init: the PID of the box's PID 1 in this host's PID namespace.
        pidfd: of that process.
        kill: sends SIGKILL to it.
    """
    try:
        namespace = os.readlink(f"/proc/{init}/ns/pid")
    except OSError:
        kill()
        return  # it has just ended
    try:
        with contextlib.suppress(ProcessLookupError):
            # Or it would end with the program, and kill the others itself.
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        _kill_below(init, namespace)
    finally:
        kill()
    if _has_ended(pidfd, _PATIENCE_SECONDS):
        return
    killed = set[int]()
    until = time.monotonic() + _LONGEST_SECONDS
    # While threads of PID 1 end, its children pass from one to another, and a look may miss some.
    while not _has_ended(pidfd, _PAUSE_SECONDS if killed else 0) and time.monotonic() < until:
        hasten(init)
        alive = set(descendants(init))
        fresh = {pid for pid in alive - killed if _kill_in(namespace, pid)}
        # Again: some were just dying when they were hastened.
        for pid in alive & killed:
            hasten(pid)
        # Only now: what still runs would take the time of the CPUs that it is let onto.
        unbind({init, *fresh})
        killed |= {init, *fresh}


def _has_ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1e3))


def _kill_below(init: int, namespace: str) -> None:
    killed = set[int]()
    until = time.monotonic() + _SPARED_SECONDS
    # Where one ends, its children pass to PID 1.
    while (alive := set(descendants(init)) - killed) and time.monotonic() < until:
        for pid in alive:
            _kill_in(namespace, pid)
        killed |= alive


def _kill_in(namespace: str, pid: int) -> bool:
    """Kill a process if it is in this PID namespace: the PID may be another's by now.

    Not the other way round: a process that still runs must not get more turns than this one.
    """
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                threads = threads_of(pid)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                for thread in threads:  # at once: a look at which there are takes long
                    hasten_thread(thread)
                return True
        finally:
            os.close(pidfd)
    return False
