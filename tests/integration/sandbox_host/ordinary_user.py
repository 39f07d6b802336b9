"""Run the bubblewrap runtime as an ordinary user: everything is imported, then root is given up.

Started by `test_bubblewrap`; takes a user id, prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from sandbox_host.processes import adopt_orphans
from sandbox_host.runtimes.bubblewrap import BubblewrapRuntime
from tests.fixtures.sandbox import prepared

PROGRAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "hello": ("print('hello')", {}),
    "uid": ("import os; print(os.getuid())", {}),
    "sleeper": ("import time; time.sleep(60)", {"wall_seconds": 0.5}),
    "hog": (
        "kept = []\nwhile True: kept.append(bytearray(b'x') * (4 << 20))",
        {"memory_bytes": 64 << 20},
    ),
    "bomb": (
        "import os, time\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60)\n"
        "except OSError: print('limited')",
        {"processes": 10},
    ),
    "disk": (
        "try: open('f', 'wb').write(b'x' * (9 << 20))\nexcept OSError: print('full')",
        {"disk_bytes": 8 << 20},
    ),
    "shadow": ("try: open('/etc/shadow')\nexcept OSError: print('contained')", {}),
}


async def report() -> dict[str, object]:
    """Readiness, and verdict and output of every program."""
    runtime = BubblewrapRuntime()
    readiness = await runtime.preflight()
    found: dict[str, object] = {"ready": readiness.ready, "reason": readiness.reason}
    found["details"] = readiness.details
    if readiness.ready:
        for name, (program, limits) in PROGRAMS.items():
            result = await runtime.run(prepared(program, **limits))
            found[name] = [result.verdict.value, result.stdout]
    await runtime.aclose()
    return found


def main() -> None:
    """Become the user and report."""
    user = int(sys.argv[1])
    adopt_orphans()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    os.chdir("/")
    print(json.dumps(asyncio.run(report())))


if __name__ == "__main__":
    main()
