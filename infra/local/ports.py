"""Free ports for servers that bind them a moment later, and again when they are restarted."""

from __future__ import annotations

import json
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


class RememberedPorts:
    """Ports by name, the same each time unless somebody else has taken one meanwhile.

    Args:
        file: keeps them, as JSON.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def of(self, name: str) -> int:
        """The port that ``name`` had before, if it is free, else another one that is."""
        known = self._known()
        port = known.get(name)
        if port is None or not _is_free(port):
            port = free_port()
            self._file.write_text(json.dumps({**known, name: port}))
        return port

    def _known(self) -> dict[str, int]:
        try:
            known = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        given = known.items() if isinstance(known, dict) else ()
        return {name: port for name, port in given if type(port) is int and 0 < port < 65536}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _named_ports() -> int:
    """How many ports from `_FIRST` on are only given to those who name them."""
    try:
        return int(_EPHEMERAL.read_text().split()[0]) - _FIRST
    except (OSError, ValueError, IndexError):
        return 0
