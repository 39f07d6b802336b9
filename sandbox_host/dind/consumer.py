"""``python -m sandbox_host.dind.consumer``: the sandbox host with few privileges left.

It stays root: whoever may speak to the engine is root of this container anyway, and boxes' files
belong to other users. What it never needs goes: modules, devices, clocks, networks, tracing of the
kernel (`privileges.KEPT` is what stays), and nothing it starts can gain anything.
"""

from __future__ import annotations

import os
import sys

from sandbox_host.dind import privileges


def main() -> None:
    """Drop, then become the host."""
    try:
        privileges.drop()
    except OSError as error:
        # An ordinary container may lack CAP_SETPCAP; it has little to give up then.
        sys.stderr.write(f"capabilities stay as they are: {error}\n")
    os.execv(sys.executable, [sys.executable, "-m", "sandbox_host"])  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
