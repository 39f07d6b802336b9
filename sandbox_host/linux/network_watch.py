"""How often a box's programs tried to reach beyond it, as the kernel counts.

A box's network namespace has no way out, so whoever connects or sends to anything but the box
itself is refused for lack of a route, and the namespace's counter of that goes up (``OutNoRoutes``,
RFC 4293). No program can lower it.
"""

from __future__ import annotations

import contextlib
import os

_COUNTER = b"OutNoRoutes"

#: Both files are well below it.
_MAX_BYTES = 64 * 1024


class NetworkWatch:
    """Counts from its making on, and goes on to after the box's end, until it is closed.

    Args:
        pid: a process of the box, as this host sees it; its namespace is held by the open files.

    Raises:
        OSError: there is no such process.
    """

    def __init__(self, pid: int) -> None:
        folder = f"/proc/{pid}/net"
        self._ipv4 = os.open(f"{folder}/snmp", os.O_RDONLY | os.O_CLOEXEC)
        self._ipv6: int | None = None
        with contextlib.suppress(OSError):  # a kernel without it has no such file
            self._ipv6 = os.open(f"{folder}/snmp6", os.O_RDONLY | os.O_CLOEXEC)
        self._before = self._count()

    def attempts(self) -> int:
        """Connections and datagrams that were refused a way out."""
        return self._count() - self._before

    def close(self) -> None:
        """Let the namespace go."""
        os.close(self._ipv4)
        if self._ipv6 is not None:
            os.close(self._ipv6)

    def _count(self) -> int:
        total = _of_table(os.pread(self._ipv4, _MAX_BYTES, 0))
        if self._ipv6 is not None:
            total += _of_list(os.pread(self._ipv6, _MAX_BYTES, 0))
        return total


def _of_table(snmp: bytes) -> int:
    """From ``/proc/net/snmp``: a line of names and one of values, both headed ``Ip:``."""
    names, values = (line.split() for line in snmp.splitlines() if line.startswith(b"Ip: "))
    return int(values[names.index(_COUNTER)])


def _of_list(snmp6: bytes) -> int:
    """From ``/proc/net/snmp6``: a name and a value a line."""
    counters = dict(line.split() for line in snmp6.splitlines())
    return int(counters[b"Ip6" + _COUNTER])
