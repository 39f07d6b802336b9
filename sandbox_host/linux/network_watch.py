"""Counts a box's attempts to reach the network.

A box's network namespace has no route out. When a program connects or sends to anything but the box
itself, the kernel refuses for lack of a route and increments the counter ``OutNoRoutes`` (RFC 4293)
of the namespace. No program can lower it.
"""

from __future__ import annotations

import contextlib
import os

_COUNTER = b"OutNoRoutes"

#: Both files are far smaller.
_MAX_BYTES = 64 * 1024


class NetworkWatch:
    """Counts from its construction until it is closed, also after the box's end.

    Args:
        pid: a process of the box, in this host's PID namespace. The open files keep its network
            namespace alive.

    Raises:
        OSError: there is no such process.
    """

    def __init__(self, pid: int) -> None:
        folder = f"/proc/{pid}/net"
        self._ipv4 = os.open(f"{folder}/snmp", os.O_RDONLY | os.O_CLOEXEC)
        self._ipv6: int | None = None
        with contextlib.suppress(OSError):  # a kernel without IPv6 has no such file
            self._ipv6 = os.open(f"{folder}/snmp6", os.O_RDONLY | os.O_CLOEXEC)
        self._before = self._count()

    def attempts(self) -> int:
        """Connections and datagrams that were refused for lack of a route."""
        return self._count() - self._before

    def close(self) -> None:
        """Release the namespace."""
        os.close(self._ipv4)
        if self._ipv6 is not None:
            os.close(self._ipv6)

    def _count(self) -> int:
        total = _of_table(os.pread(self._ipv4, _MAX_BYTES, 0))
        if self._ipv6 is not None:
            total += _of_list(os.pread(self._ipv6, _MAX_BYTES, 0))
        return total


def _of_table(snmp: bytes) -> int:
    """The counter in ``/proc/net/snmp``: a line of names, then one of values, both ``Ip: …``."""
    names, values = (line.split() for line in snmp.splitlines() if line.startswith(b"Ip: "))
    return int(values[names.index(_COUNTER)])


def _of_list(snmp6: bytes) -> int:
    """The counter in ``/proc/net/snmp6``: a name and a value per line."""
    counters = dict(line.split() for line in snmp6.splitlines())
    return int(counters[b"Ip6" + _COUNTER])
