"""Run the bubblewrap runtime as an ordinary user: everything is imported, then root is given up.

Started by `test_bubblewrap`; takes a user id, prints one JSON object.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio imports it when root is gone
import json
import os
import sys
from typing import Any

from sandbox_host.linux.processes import adopt_orphans
from sandbox_host.runtimes.base import RunControl
from sandbox_host.runtimes.bubblewrap.runtime import BubblewrapRuntime
from tests.support.sandbox.runtimes import prepared, run

_INOTIFY = """\
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
def instances(most): return [one for _ in range(most) if (one := libc.inotify_init()) >= 0]
def signals(most):
    return sum(libc.sigqueue(os.getpid(), signal.SIGRTMIN, None) == 0 for _ in range(most))
"""
EXHAUST = _INOTIFY + "instances(1000), signals(200_000)\nprint('all', flush=True); time.sleep(60)"
NEIGHBOUR = _INOTIFY + "print(len(instances(4)), signals(50))"

PROGRAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "hello": ("print('hello')", {}),
    "artifact": ("open('/out/a', 'w').write('left'); print(open('/in/main.py').read()[:4])", {}),
    "hidden": ("import os; open('/out/h', 'w').write('x'); os.chmod('/out/h', 0)", {}),
    "full": ("open('f', 'wb').write(b'x' * (9 << 20))", {"disk_bytes": 8 << 20}),
    "files": (
        "n = 0\nwhile True: open(f'f{n}', 'x').close(); n += 1",
        {"memory_bytes": 512 << 20},
    ),
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
    "small": (
        "open('/out/x', 'wb').write(b'x' * (3 << 20)); print('fits')",
        {"disk_bytes": 4 << 20, "artifact_bytes": 0},
    ),
    "shadow": ("try: open('/etc/shadow')\nexcept OSError: print('contained')", {}),
}


async def report() -> dict[str, object]:
    """Readiness, and verdict and output of every program."""
    runtime = BubblewrapRuntime(pool_memory_bytes=32 << 20)
    readiness = await runtime.preflight()
    found: dict[str, object] = {"ready": readiness.ready, "reason": readiness.reason}
    found["details"] = readiness.details
    if readiness.ready:
        for name, (program, limits) in PROGRAMS.items():
            await _box_waits(runtime)
            result = await run(runtime, prepared(program, **limits))
            found[name] = [result.verdict.value, result.stdout]
            found[f"{name} warm"] = result.warm
            found[f"{name} left"] = [artifact.name for artifact in result.artifacts]
            found[f"{name} skipped"] = [skipped.reason for skipped in result.skipped_artifacts]
        found["beside one that takes all"] = await _pair(runtime)
    await runtime.aclose()
    return found


async def _pair(runtime: BubblewrapRuntime) -> list[object]:
    """What a program can do beside one that has used up all it could."""
    control = RunControl()
    exhausted = asyncio.Event()
    control.on_output = lambda *_: exhausted.set()
    job = prepared(EXHAUST, wall_seconds=60)
    running = asyncio.create_task(runtime.run(job, control))
    await asyncio.wait_for(exhausted.wait(), 60)
    result = await run(runtime, prepared(NEIGHBOUR))
    control.kill.set()
    await running
    return [result.verdict.value, *result.stdout.split(), result.stderr]


async def _box_waits(runtime: BubblewrapRuntime) -> None:
    async with asyncio.timeout(60):
        while True:
            state: Any = runtime.pool_state()
            if state["languages"]["any"]["waiting"]:
                return
            await asyncio.sleep(0.01)


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
