"""TCP ports of servers on this machine: free ones, remembered ones, unusable ones."""

from __future__ import annotations

import argparse
import json
import secrets
import socket
from pathlib import Path

_HOST = "127.0.0.1"

#: The ports that Linux gives to clients, and to servers that ask for port 0.
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 20_000
_TRIES = 50


def free_port() -> int:
    """A free port outside the range from which the system picks ports by itself.

    A port from that range could be given to another program before the server binds it, or while
    the server is restarted.
    """
    count = _ports_below_ephemeral()
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(count) if count > 0 else 0
        with socket.socket() as probe:
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no free port was found on {_HOST}")


def why_unusable(port: int) -> str | None:
    """The system's reason why a server cannot listen on ``port``; None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def port_argument(text: str) -> int:
    """A port on a command line, 0 for any free one; for `argparse`."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


class RememberedPorts:
    """Ports by name, the same each time unless another program has taken one in the meantime.

    Args:
        file: where they are kept, as JSON.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def of(self, name: str) -> int:
        """The port that ``name`` had before if it is free, else another free one."""
        known = self._known()
        port = known.get(name)
        if port is None or why_unusable(port) is not None:
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


def _ports_below_ephemeral() -> int:
    """How many ports from `_FIRST` on the system never picks by itself."""
    try:
        return int(_EPHEMERAL.read_text().split()[0]) - _FIRST
    except (OSError, ValueError, IndexError):
        return 0
