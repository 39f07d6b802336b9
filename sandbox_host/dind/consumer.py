"""``python -m sandbox_host.dind.consumer``: starts the sandbox host with few privileges.

It stays root: whoever can talk to the engine is root in this container anyway, and boxes' files
belong to other users. It gives up every capability it never needs (kernel modules, devices, clocks,
networks, kernel tracing; `privileges.KEPT` lists what stays), and its children cannot gain any.
"""

from __future__ import annotations

import os
import sys

from sandbox_host.dind import privileges


def main() -> None:
    """Drop capabilities, then become the host."""
    try:
        privileges.drop()
    except OSError as error:
        # An ordinary container may lack CAP_SETPCAP; then it has little to give up.
        sys.stderr.write(f"capabilities are not reduced: {error}\n")
    os.execv(sys.executable, [sys.executable, "-m", "sandbox_host"])  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
