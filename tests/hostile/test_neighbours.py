"""Jobs that run at once, and one after another, neither see nor harm each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from domain.contracts.job import Verdict
from sandbox_host.runtimes.base import RunControl, RunResult, Runtime
from tests.support.hostile.attack import job_of, launch
from tests.support.hostile.case import Program, limits
from tests.support.hostile.decoys import Decoys
from tests.support.sandbox.runtimes import CONFINED, RUNTIMES, on_runtime

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.parametrize("runtime_name", [*map(on_runtime, RUNTIMES)]),
]

#: Leaves a mark in every place it can write to or be seen in, then does what stands below it.
_LEAVE_MARKS = """\
import ctypes, mmap, os, socket, sys, time
mark = "neighbour-{mark}"
own = [os.environ["TMPDIR"], os.environ["OUT_DIR"]]
for folder in (".", *own, "/tmp", "/dev/shm", "/var/tmp", "/run"):
    try:
        file = os.open(folder + "/" + mark, os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(file, mark.encode())
    except OSError: pass
try:
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\\0" + mark); abstract.listen()
except OSError: pass
try:
    server = socket.create_server(("127.0.0.1", {port})); server.listen()
except OSError: pass
libc = ctypes.CDLL(None)
libc.shmget({key}, 4096, 0o1000 | 0o666)
print("ready", flush=True)
"""

_STAY = "import time\ntime.sleep(100)\n"

#: Prints every mark of another that it finds, by name or by looking around.
_LOOK_FOR_MARKS = """\
import ctypes, glob, os, socket
mark = "neighbour-{mark}"
own = [os.environ["TMPDIR"], os.environ["OUT_DIR"]]
for folder in (".", *own, "/tmp", "/dev/shm", "/var/tmp", "/run"):
    try:
        open(folder + "/" + mark).read(); print("by name:", folder)
    except OSError: pass
for top in ("/tmp", "/box", "/out", "/in", "/dev/shm", "/run", "/proc"):
    for pattern in ("/*", "/*/cwd/*", "/*/root/tmp/*", "/*/fd/*", "/*/*"):
        for path in glob.iglob(top + pattern):
            if "neighbour-" in path: print("by looking:", path)
for pid in glob.glob("/proc/[0-9]*"):
    if pid == "/proc/" + str(os.getpid()): continue
    try:
        if mark in open(pid + "/environ").read() + open(pid + "/maps").read(): print(pid)
    except OSError: pass
for attempt in (lambda: socket.socket(socket.AF_UNIX).connect("\\0" + mark),
                lambda: socket.create_connection(("127.0.0.1", {port}), 1)):
    try: attempt()
    except OSError: pass
    else: print("connected")
libc = ctypes.CDLL(None)
if libc.shmget({key}, 4096, 0) >= 0: print("segment")
print("looked")
"""

_KILL_OTHERS = """\
import glob, os, signal
for path in glob.glob("/proc/[0-9]*"):
    pid = int(path[6:])
    if pid not in (1, os.getpid(), os.getppid()):
        try: os.kill(pid, signal.SIGKILL)
        except OSError: pass
try: os.kill(-1, signal.SIGKILL)
except OSError: pass
print("tried")
"""


def _program(source: str, **options: object) -> Program:
    values = {"mark": uuid4().hex, "port": 47_813, "key": 1_204_913, **options}
    for name, value in values.items():
        source = source.replace(f"{{{name}}}", str(value))
    return Program("neighbour", "", source, lambda _: True, limits=limits(wall_seconds=90))


def _expected_sight(runtime_name: str) -> set[str]:
    """What may be found: a file in the one shared memory that confined programs have, by name."""
    return {"looked", "by name: /dev/shm"} if runtime_name == CONFINED else {"looked"}


@contextlib.asynccontextmanager
async def _beside(
    runtime: Runtime, program: Program, decoys: Decoys
) -> AsyncIterator[asyncio.Task[RunResult]]:
    """Has ``program`` running, and past its first output; killed at the end."""
    printed = asyncio.Event()
    control = RunControl(on_output=lambda *_: printed.set())
    running = asyncio.create_task(runtime.run(job_of(program, decoys, uuid4().hex), control))
    waiting = asyncio.create_task(printed.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield running
    finally:
        waiting.cancel()
        control.kill.set()
        await running


async def test_a_job_cannot_see_one_that_runs_beside_it(
    target: Runtime, runtime_name: str, decoys: Decoys
) -> None:
    mark = uuid4().hex
    async with _beside(target, _program(_LEAVE_MARKS + _STAY, mark=mark), decoys) as other:
        look = (
            await launch(target, _program(_LOOK_FOR_MARKS, mark=mark), decoys, uuid4().hex)
        ).result
        assert not other.done()
    assert look.verdict is Verdict.SUCCEEDED, look
    assert set(look.stdout.splitlines()) <= _expected_sight(runtime_name)


async def test_a_job_finds_nothing_of_the_one_before(target: Runtime, decoys: Decoys) -> None:
    mark = uuid4().hex
    left = await launch(target, _program(_LEAVE_MARKS, mark=mark), decoys, uuid4().hex)
    assert left.result.stdout == "ready\n", left.result
    look = await launch(target, _program(_LOOK_FOR_MARKS, mark=mark), decoys, uuid4().hex)
    assert look.result.stdout == "looked\n", look.result


async def test_a_job_cannot_kill_one_that_runs_beside_it(target: Runtime, decoys: Decoys) -> None:
    async with _beside(target, _program("print('here', flush=True)\n" + _STAY), decoys) as other:
        killer = (await launch(target, _program(_KILL_OTHERS), decoys, uuid4().hex)).result
        assert killer.stdout == "tried\n", killer
        assert not other.done()
    assert (await other).result.verdict is Verdict.KILLED_BY_OPERATOR
