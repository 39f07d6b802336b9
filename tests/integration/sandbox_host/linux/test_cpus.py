"""Without cgroups a program has one CPU, never the first, and can be killed whatever it does."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing

import pytest

from domain.contracts.job import SandboxResult, Verdict
from sandbox_host.run.job import PreparedJob
from tests.support.sandbox.runtimes import open_runtime, prepared, run

_PROGRAM = """\
import os, time
print(*os.sched_getaffinity(0))
try: os.sched_setaffinity(0, range(64))
except PermissionError: print("refused")
if os.fork() == 0: os.setsid(); print(*os.sched_getaffinity(0))
else: os.wait()
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("name", ["bubblewrap-rlimits", "confined"])
async def test_programs_get_a_cpu_each_but_never_the_first(name: str) -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    async with aclosing(await open_runtime(name)) as runtime:
        jobs = [run(runtime, prepared(_PROGRAM + "time.sleep(1)")) for _ in others]
        results = await asyncio.gather(*jobs)
    given = []
    for result in results:
        cpu, refused, of_child = result.stdout.splitlines()
        assert (refused, of_child) == ("refused", cpu), result.stderr
        given.append(int(cpu))
    assert sorted(given) == others
    assert first not in given


#: A hundred sessions that never sleep.
_BUSY = """\
import os
for _ in range(100):
    if os.fork() == 0:
        os.setsid()
        while True: pass
while True: pass
"""

#: Gives up its share of CPU time in every way there is, so that it hardly runs even to die.
_MEEK = """\
import os
def attempt(call, *arguments):
    try: call(*arguments)
    except OSError: pass
def weigh_little():
    with open("/proc/self/autogroup", "w") as file: file.write("19")
for _ in range(20):
    if os.fork() == 0: break
attempt(os.setsid)
attempt(weigh_little)
attempt(os.nice, 19)
attempt(os.sched_setscheduler, 0, os.SCHED_IDLE, os.sched_param(0))
while True: pass
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["bubblewrap-rlimits", "confined"])
async def test_a_program_ends_at_its_deadline_beside_a_busy_one(name: str) -> None:
    async with aclosing(await open_runtime(name)) as runtime:
        busy = run(runtime, prepared(_BUSY, wall_seconds=12, processes=200))
        meek = run(runtime, prepared(_MEEK, wall_seconds=6, processes=200))
        results = await asyncio.gather(busy, meek)
    assert [result.verdict for result in results] == [Verdict.TIMED_OUT] * 2
    for result, deadline in zip(results, (12, 6), strict=True):
        assert result.usage is not None
        assert result.usage.wall_ms < (deadline + 5) * 1e3


#: Two hundred processes that never sleep, half of them in the session of the box's PID 1, which
#: hardly gets a turn any more; and the box's other processes end only when it has had one.
_STARVING = """\
import os
def attempt(call, *arguments):
    try: call(*arguments)
    except OSError: pass
def weigh_little():
    with open("/proc/1/autogroup", "w") as file: file.write("19")
begin, held = os.pipe()
for number in range(200):
    if os.fork() == 0:
        os.close(held)
        if number % 2: os.setsid()
        os.read(begin, 1)
        while True: pass
attempt(os.sched_setscheduler, 1, os.SCHED_IDLE, os.sched_param(0))
attempt(os.setpriority, os.PRIO_PROCESS, 1, 19)
attempt(weigh_little)
os.close(held)
while True: pass
"""


#: Processes that execute one program after the other, and get no turn beside their siblings. What
#: is read about one in the middle of that waits for it.
_EXECUTING = """\
import os, sys
def spin():
    try: os.setsid()
    except OSError: pass  # it has one
    while True: pass
with open("loop.sh", "w") as file: file.write("exec sh loop.sh")
for number in range(30):
    if os.fork() == 0:
        if number % 8 == 0 and os.fork() == 0: spin()
        try: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except OSError:  # refused in confined, where many would only take turns from the others
            if number > 4: os._exit(0)
        os.execv("/bin/sh", ["sh", "loop.sh"])
"""

#: Goes on in a session of its own, which gets its share of turns.
_BESIDE = """\
import time
if pid := os.fork(): sys.exit(os.waitpid(pid, 0)[1] != 0)
os.setsid()
time.sleep(1)
"""

#: What such a program does besides, and how that ends.
_MEANWHILE = {
    "nothing": ("spin()", Verdict.TIMED_OUT),
    "uses memory": (
        _BESIDE + "held = bytearray(b'x') * (150 << 20); spin()",
        Verdict.OUT_OF_MEMORY,
    ),
    "fills the disk": (
        _BESIDE + "for n in range(60):\n"
        "    file = os.open('gone', os.O_RDWR | os.O_CREAT); os.unlink('gone')\n"
        "    os.write(file, b'x' * (2 << 20)); time.sleep(0.02)\n"
        "spin()",
        Verdict.DISK_LIMIT,
    ),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("does", _MEANWHILE)
@pytest.mark.parametrize("name", ["bubblewrap", "bubblewrap-rlimits", "confined"])
async def test_limits_hold_while_processes_get_no_turn_to_execute_a_program(
    name: str, does: str
) -> None:
    source, verdict = _MEANWHILE[does]
    if does == "fills the disk" and name != "confined":
        verdict = Verdict.EXITED  # the file system of its own is full
    wall, within = (5, 8) if does == "nothing" else (20, 15)
    program = prepared(
        _EXECUTING + source,
        wall_seconds=wall, processes=150, memory_bytes=100 << 20, disk_bytes=32 << 20,
    )  # fmt: skip
    result, longest = await _timed(name, program)
    assert result.verdict is verdict
    assert result.usage is not None
    assert result.usage.wall_ms < within * 1e3
    assert longest < 2


async def _timed(name: str, program: PreparedJob) -> tuple[SandboxResult, float]:
    """A program's result, and for how long at most the host's event loop stood still, seconds."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    async with aclosing(await open_runtime(name)) as runtime:
        ticking = asyncio.create_task(tick())
        result = await run(runtime, program)
        ticking.cancel()
    return result, longest


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["bubblewrap", "bubblewrap-rlimits", "confined"])
async def test_a_program_that_starves_its_box_ends_at_its_deadline_and_holds_nobody_up(
    name: str,
) -> None:
    program = prepared(_STARVING, wall_seconds=5, processes=256, memory_bytes=1 << 30)
    result, longest = await _timed(name, program)
    assert result.verdict is Verdict.TIMED_OUT
    assert result.usage is not None
    assert result.usage.wall_ms < 10e3
    assert longest < 4
