"""Limits that are held by sampling, against programs that hide from a sample what they hold."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from domain.contracts.job import Verdict
from tests.support.sandbox.runtimes import open_runtime, prepared, run

#: An orphan becomes the last child of a process that waits for one with which it shares memory.
_ADOPTED_BY_ONE_IN_VFORK = """\
import ctypes, os, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
os.mkfifo("fifo")
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(1)
        held = bytearray(b"x") * (200 << 20)
        time.sleep(5)
        os._exit(0)
    time.sleep(0.5)
    os._exit(0)
blocked = [(os.POSIX_SPAWN_OPEN, 0, "fifo", os.O_RDONLY, 0)]
os.posix_spawn("/bin/true", ["true"], {}, file_actions=blocked)
"""

#: Hands on what it holds from one process to the next, each of which ends at once, beside many that
#: take time to be looked at.
_HANDED_ON = """\
import mmap, os, sys, time
for _ in range(200):
    if os.fork() == 0:
        time.sleep(30)
if os.fork():
    time.sleep(6)
    sys.exit()
{hold}
until = time.monotonic() + 6
while time.monotonic() < until:
    {grow}
    if os.fork():
        os._exit(0)
"""
_MEMORY = _HANDED_ON.format(
    hold="held = mmap.mmap(-1, 200 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
    grow="if held.tell() < len(held): held.write(b'x' * (1 << 20))",
)
_DISK = _HANDED_ON.format(
    hold="held = []",
    grow="""if len(held) < 100:
        held.append(os.open("gone", os.O_RDWR | os.O_CREAT))
        os.unlink("gone")
        os.write(held[-1], b"x" * (1 << 20))""",
)

#: Forked processes share sixty megabytes, and the first thread of the one that made them has ended.
_WITHOUT_FIRST_THREAD = """\
import ctypes, os, threading, time
def fill():
    time.sleep(0.5)
    held = bytearray(b"x") * (60 << 20)
    for _ in range(20):
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
    time.sleep(1)
    os._exit(0)
threading.Thread(target=fill).start()
ctypes.CDLL(None).pthread_exit(None)
"""

#: The first thread has a name that looks like figures, and ends; another holds the memory.
_NAMED_LIKE_FIGURES = """\
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
def fill():
    libc.prctl(15, b"\\rThreads: x", 0, 0, 0)  # PR_SET_NAME
    time.sleep(0.3)
    held = bytearray(b"x") * (200 << 20)
    time.sleep(5)
    os._exit(0)
libc.prctl(15, b"\\rRssAnon: 0", 0, 0, 0)
threading.Thread(target=fill).start()
libc.pthread_exit(None)
"""

#: Mappings without pages, which take memory of the kernel's for each process that has them.
_MAPPINGS = """\
import mmap, os, time
held = [mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, n % 2 or 3) for n in range(40_000)]
for _ in range(23):
    if os.fork() == 0: break
time.sleep(8)
"""

#: Writes late to what forked processes share, so that each has pages of its own, as many as before.
_SHARED_UNTIL_LATE = """\
import mmap, os, time
held = mmap.mmap(-1, 60 << 20, mmap.MAP_PRIVATE)
def fill(byte):
    for start in range(0, len(held), 4096): held[start] = byte
fill(1)
for _ in range(10):
    if os.fork() == 0:
        time.sleep(2.5); fill(2); time.sleep(8)
        os._exit(0)
time.sleep(8)
"""

_SHARED = """\
import os, time
held = bytearray(b"x") * (60 << 20)
for _ in range(5):
    if os.fork() == 0:
        time.sleep(0.5)
        os._exit(0)
time.sleep(0.7)
"""


@pytest.mark.parametrize("name", ["bubblewrap-rlimits", "confined"])
@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        pytest.param(_ADOPTED_BY_ONE_IN_VFORK, Verdict.OUT_OF_MEMORY, id="adopted in vfork"),
        pytest.param(_MEMORY, Verdict.OUT_OF_MEMORY, id="memory handed on"),
        pytest.param(_DISK, Verdict.DISK_LIMIT, id="deleted files handed on"),
        pytest.param(_NAMED_LIKE_FIGURES, Verdict.OUT_OF_MEMORY, id="named like figures"),
        pytest.param(_SHARED_UNTIL_LATE, Verdict.OUT_OF_MEMORY, id="shared until late"),
        pytest.param(_WITHOUT_FIRST_THREAD, Verdict.SUCCEEDED, id="first thread ended"),
    ],
)
async def test_what_a_program_holds_is_seen_whoever_holds_it(
    name: str, source: str, verdict: Verdict
) -> None:
    if name != "confined" and verdict is Verdict.DISK_LIMIT:
        pytest.skip("a box's file system has its size")
    program = prepared(
        source, wall_seconds=20, processes=256, memory_bytes=100 << 20, disk_bytes=32 << 20
    )
    async with aclosing(await open_runtime(name)) as runtime:
        result = await run(runtime, program)
    assert result.verdict is verdict, result


@pytest.mark.parametrize("name", ["bubblewrap-rlimits", "confined"])
async def test_mappings_are_limited(name: str) -> None:
    # Where files that are only mapped are looked for, that limits them.
    limited = Verdict.DISK_LIMIT if name == "confined" else Verdict.OUT_OF_MEMORY
    async with aclosing(await open_runtime(name)) as runtime:
        result = await run(runtime, prepared(_MAPPINGS, memory_bytes=150 << 20, wall_seconds=20))
    assert result.verdict is limited, result


@pytest.mark.parametrize("name", ["bubblewrap-rlimits", "confined"])
async def test_the_peak_counts_shared_pages_once(name: str) -> None:
    async with aclosing(await open_runtime(name)) as runtime:
        result = await run(runtime, prepared(_SHARED, memory_bytes=1 << 30))
    assert result.verdict is Verdict.SUCCEEDED, result
    assert result.usage is not None
    assert result.usage.peak_memory_bytes is not None
    assert 60 << 20 <= result.usage.peak_memory_bytes < 130 << 20


@pytest.mark.parametrize(("name", "most"), [("bubblewrap-rlimits", "4"), ("confined", "0")])
async def test_few_queues_of_events_can_be_made(name: str, most: str) -> None:
    source = (
        "import ctypes; i = ctypes.CDLL(None).inotify_init; print(sum(i() > 0 for _ in '8' * 8))"
    )
    async with aclosing(await open_runtime(name)) as runtime:
        result = await run(runtime, prepared(source))
    assert result.stdout.strip() == most, result
