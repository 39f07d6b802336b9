"""Run the confined-process runtime where it is for, and say what its programs could do.

Started by `test_confined` inside a container without privileges; prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from sandbox_host.linux.processes import adopt_orphans
from sandbox_host.runtimes.confined.runtime import ConfinedRuntime
from tests.support.sandbox.runtimes import prepared, run

_TRY = "try:\n    {}\n    print('escaped')\nexcept OSError: print('contained')\n"

PROGRAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "hello": ("print('hello')", {}),
    "artifact": ("import os; open(os.environ['OUT_DIR'] + '/a', 'w').write('left')", {}),
    "sleeper": ("import time; time.sleep(60)", {"wall_seconds": 0.5}),
    "hog": (
        "kept = []\nwhile True: kept.append(bytearray(b'x') * (4 << 20))",
        {"memory_bytes": 64 << 20},
    ),
    "disk": ("open('f', 'wb').write(b'x' * (9 << 20))", {"disk_bytes": 8 << 20}),
    "unlinked": (
        "import os, time\n"
        "held = []\n"
        "for _ in range(8):\n"
        "    held.append(open('f', 'wb')); os.unlink('f'); held[-1].write(b'x' * (4 << 20))\n"
        "time.sleep(60)",
        {"disk_bytes": 8 << 20},
    ),
    "bomb": (
        "import os, time\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60)\n"
        "except OSError: time.sleep(2); raise",
        {"processes": 10},
    ),
    "survivor": (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(600)\n"
        "    os._exit(0)\n"
        "os.wait()\n",
        {},
    ),
    "large parent": (
        "import subprocess\nlarge = bytearray(80 << 20)\n"
        "for _ in range(60): subprocess.check_call(['true'])",
        {"memory_bytes": 128 << 20},
    ),
    "host's environment": (_TRY.format(f"open('/proc/{os.getpid()}/environ').read()"), {}),
    "host's process": (_TRY.format(f"import os; os.kill({os.getpid()}, 9)"), {}),
    "host's files": (_TRY.format("import os; os.listdir('/tmp')"), {}),
    "host's modes": (_TRY.format("import os; os.chmod('/tmp/of-the-host', 0o777)"), {}),
    "outside": (_TRY.format("open('/tmp/evil', 'w')"), {}),
    "inotify": (
        _TRY.format("import ctypes, os; os.close(ctypes.CDLL(None).inotify_init())"),
        {},
    ),
    "network": (_TRY.format("import socket; socket.socket()"), {}),
}


async def report() -> dict[str, object]:
    """Readiness, verdict, output and artifacts of every program, and what is left of them."""
    runtime = ConfinedRuntime()
    readiness = await runtime.preflight()
    found: dict[str, object] = {"ready": readiness.ready, "reason": readiness.reason}
    found["isolation"] = readiness.isolation
    if readiness.ready:
        for name, (program, limits) in PROGRAMS.items():
            result = await run(runtime, prepared(program, **limits))
            left = [artifact.name for artifact in result.artifacts]
            found[name] = [result.verdict.value, result.stdout, left, result.stderr[-300:]]
    await runtime.aclose()
    found["processes"] = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    found["files"] = os.listdir("/tmp")
    return found


if __name__ == "__main__":
    adopt_orphans()
    Path("/tmp/of-the-host").touch()
    print(json.dumps(asyncio.run(report())))
