"""The kernel's quotas per user are each program's own: exhausting them takes nothing from another.

Refused to every program, so that nobody has a quota of them: keys, POSIX queues, asynchronous
input and output, fanotify, BPF (`tests.hostile`).
"""

from __future__ import annotations

import asyncio
import json

import pytest

from domain.contracts.job import Verdict
from sandbox_host.runtimes.base import RunControl, Runtime
from tests.support.sandbox.runtimes import prepared, run

_COMMON = """\
import array, ctypes, fcntl, json, os, resource, signal, socket, threading, time
libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
kept = []
def attempt(call):
    try: return call()
    except OSError: return -1
def inotify(most):
    return sum(libc.inotify_init() >= 0 for _ in range(most))
def pipes(most):
    made = 0
    for _ in range(most):
        pair = attempt(os.pipe)
        if pair == -1: break
        kept.append(pair); made += 1
        attempt(lambda: fcntl.fcntl(pair[0], 1031, 1 << 20))
    return made
def signals(most):
    sent = 0
    while sent < most and libc.sigqueue(os.getpid(), signal.SIGRTMIN, None) == 0: sent += 1
    return sent
def in_flight(most):
    sent = 0
    for _ in range(most):
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); kept.append(ends)
        held = array.array("i", [0] * 250)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)]
        for _ in range(5): sent += attempt(lambda: ends[0].sendmsg([b"x"], rights)) > 0
    return sent
def locked(most):
    block = ctypes.create_string_buffer(4096 * most)
    kept.append(block)
    return sum(libc.mlock(ctypes.byref(block, 4096 * n), 4096) == 0 for n in range(most))
def threads(most):
    made = 0
    try:
        for _ in range(most):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); made += 1
    except RuntimeError: pass
    return made
"""

#: Each quota of a user's, to its end: several times what one process may open.
_EXHAUST = (
    _COMMON
    + """\
inotify(200); signals(200_000); in_flight(20); locked(200)
for _ in range(3):
    if os.fork() == 0:
        pipes(400); threads(10); time.sleep(60)
pipes(200); threads(500)
time.sleep(0.5)
print("all", flush=True)
time.sleep(60)
"""
)

_NEIGHBOUR = (
    _COMMON
    + """\
read, written = os.pipe()
print(json.dumps({
    "inotify": inotify(4), "signals": signals(20), "in flight": in_flight(1),
    "pipe": fcntl.fcntl(read, 1032), "threads": threads(20),
    "larger pipe": attempt(lambda: fcntl.fcntl(read, 1031, 1 << 18)),
}))
"""
)

_WHOLE = {"inotify": 4, "signals": 20, "in flight": 5, "pipe": 65536, "larger pipe": 1 << 18}


@pytest.mark.usefixtures("needs_root")
async def test_a_program_that_exhausts_its_users_quotas_takes_none_of_its_neighbours(
    runtime: Runtime,
) -> None:
    exhausted = asyncio.Event()
    control = RunControl(on_output=lambda *_: exhausted.set())
    job = prepared(_EXHAUST, processes=64, memory_bytes=512 << 20)
    running = asyncio.create_task(runtime.run(job, control))
    waiting = asyncio.create_task(exhausted.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert not running.done(), running.result().result
    beside = await run(runtime, prepared(_NEIGHBOUR, memory_bytes=512 << 20))
    control.kill.set()
    await running
    assert beside.verdict is Verdict.SUCCEEDED, beside.stderr
    found = json.loads(beside.stdout)
    assert found.pop("threads") == 20
    if runtime.name == "docker+runsc":
        # Of its own kernel, whose pipes have other sizes; the host's are not in its reach.
        found |= {name: _WHOLE[name] for name in ("pipe", "larger pipe")}
    refused = (
        {"inotify": 0, "in flight": 0, "larger pipe": -1} if runtime.name == "confined" else {}
    )
    assert found == _WHOLE | refused
