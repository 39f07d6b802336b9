"""Free ports for servers that bind them a moment later, and again when they are restarted."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

_HOST = "127.0.0.1"

#: Where Linux takes ports from that nobody has named: for clients, and for servers that ask for 0.
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 20_000
_TRIES = 50


def free_port() -> int:
    """A port that is free now, and that the system will not hand to anybody who asks for any.

    One of its own choice could be another program's before it is bound, or while its server is
    down.
    """
    count = _named_ports()
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(count) if count > 0 else 0
        with socket.socket() as probe:
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no free port was found on {_HOST}")


def _named_ports() -> int:
    """How many ports from `_FIRST` on are only given to those who name them."""
    try:
        return int(_EPHEMERAL.read_text().split()[0]) - _FIRST
    except (OSError, ValueError, IndexError):
        return 0
