"""Programs that take more than their share: processes, memory, disk, CPU, descriptors."""

from __future__ import annotations

from dataclasses import replace

from domain.contracts.job import SandboxResult, Verdict
from tests.support.hostile.case import (
    Otherwise,
    Program,
    anyhow,
    limits,
    memory_below,
    number,
    prints,
)
from tests.support.sandbox.runtimes import CONFINED, DOCKER, GVISOR, OCI, RLIMITS

_MIB = 1 << 20
_OUT_OF_MEMORY = (Verdict.OUT_OF_MEMORY,)

_NOT_COUNTED = Otherwise(
    "processes of gVisor's kernel are not the host's, and not counted: memory and deadline hold",
    (Verdict.TIMED_OUT, Verdict.OUT_OF_MEMORY, Verdict.EXITED, Verdict.SUCCEEDED),
    anyhow,
)
_NEVER_COUNTED = replace(_NOT_COUNTED, verdicts=(Verdict.TIMED_OUT, Verdict.OUT_OF_MEMORY))
_MAY_BE_MISSED = Otherwise(
    "nothing counts refusals, and a program may end before it is seen at its limit",
    (Verdict.PROCESS_LIMIT, Verdict.EXITED),
)
_BUFFERS = "without a cgroup the kernel's buffers count for nobody; only descriptors are limited"
_KERNEL_MEMORY = {
    name: Otherwise(why, (Verdict.SUCCEEDED, Verdict.OUT_OF_MEMORY), anyhow)
    for name, why in (
        (RLIMITS, _BUFFERS),
        (CONFINED, "what pipes and pairs of sockets may hold counts beyond 16 MiB"),
    )
}
_KILLED_OVER_DISK = Otherwise(
    "it writes to the container's disk and is killed when it has too much",
    (Verdict.DISK_LIMIT, Verdict.SUCCEEDED),
    lambda result: ((result.usage and result.usage.disk_bytes) or 0) <= 24 * _MIB,
)
_ALLOTTED_BY_WRITING = Otherwise(
    "space cannot be allotted at once: the C library writes, until the disk limit or its own",
    (Verdict.DISK_LIMIT, Verdict.SUCCEEDED),
    anyhow,
)
_TOO_DEEP = Otherwise(
    "what lies too deep to be measured is taken for too much",
    (Verdict.SUCCEEDED, Verdict.DISK_LIMIT),
    anyhow,
)

_FILLER = """\
import os
written = 0
try:
    with open(f"{place}/filler", "wb", buffering=0) as file:
        while True: written += file.write(b"x" * 65536)
except OSError: print(written)
"""


def _nothing_held(result: SandboxResult) -> bool:
    return result.stdout != "held\n"


def _used_one_cpu(result: SandboxResult) -> bool:
    usage = result.usage
    if usage is None or usage.cpu_user_ms is None or usage.cpu_system_ms is None:
        return False
    # A period of grace: the quota is enforced by the 100 ms.
    return usage.cpu_user_ms + usage.cpu_system_ms <= usage.wall_ms * 1.25 + 300


PROGRAMS = (
    Program(
        "fork-bomb",
        "fork until refused",
        """\
import os, time
n = 0
try:
    while True:
        if os.fork() == 0: time.sleep(60)
        n += 1
except OSError: print(n)
""",
        number(1, 19),
        limits=limits(processes=20, wall_seconds=5),
        elsewhere={GVISOR: _NOT_COUNTED},
        without_cgroups=True,
    ),
    Program(
        "relentless-fork-bomb",
        "fork for ever, in every child",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n",
        anyhow,
        (Verdict.TIMED_OUT,),
        limits=limits(wall_seconds=1, processes=30),
        elsewhere={GVISOR: _NEVER_COUNTED},
        without_cgroups=True,
    ),
    Program(
        "shell-fork-bomb",
        "the classic of the shell",
        "b() { b | b & }; b; wait\n",
        anyhow,
        # A shell that cannot fork gives up, and the box ends with it.
        (Verdict.TIMED_OUT, Verdict.PROCESS_LIMIT, Verdict.SUCCEEDED, Verdict.EXITED),
        language="shell",
        limits=limits(wall_seconds=1, processes=30),
        elsewhere={GVISOR: _NOT_COUNTED},
    ),
    Program(
        "thread-bomb",
        "start threads until refused, and fail of it",
        "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
        lambda result: "start new thread" in result.stderr,
        (Verdict.PROCESS_LIMIT,),
        limits=limits(processes=20, wall_seconds=5),
        elsewhere={GVISOR: _NOT_COUNTED, RLIMITS: _MAY_BE_MISSED, CONFINED: _MAY_BE_MISSED},
        without_cgroups=True,
    ),
    Program(
        "fork-exit-storm",
        "start and end processes as fast as it can",
        """\
import os, time
end, n = time.monotonic() + 0.7, 0
while time.monotonic() < end:
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
    n += 1
print(n > 0)
""",
        prints("True\n"),
    ),
    Program(
        "orphan-storm",
        "leave more dead orphans than processes are allowed",
        """\
import os, time
for n in range(60):
    while True:
        try: pid = os.fork()
        except BlockingIOError: time.sleep(0.01)
        else: break
    if pid == 0:
        try:
            if os.fork() == 0: os._exit(0)
        except BlockingIOError: pass
        os._exit(0)
    os.waitpid(pid, 0)
print("reaped")
""",
        prints("reaped\n"),
        limits=limits(processes=20, wall_seconds=20),
    ),
    Program(
        "memory-hog",
        "allocate without end",
        "kept = []\nwhile True: kept.append(bytearray(b'x') * (4 << 20))\n",
        memory_below(64 * _MIB),
        _OUT_OF_MEMORY,
        limits=limits(memory_bytes=64 * _MIB),
        elsewhere={
            GVISOR: Otherwise(
                "gVisor's own kernel has 64 MiB more", _OUT_OF_MEMORY, memory_below(128 * _MIB)
            ),
            RLIMITS: Otherwise("sampled, so the peak is over the limit", _OUT_OF_MEMORY, anyhow),
            CONFINED: Otherwise("sampled, so the peak is over the limit", _OUT_OF_MEMORY, anyhow),
        },
        without_cgroups=True,
    ),
    Program(
        "memory-by-children",
        "split it among children that each stay below the limit",
        """\
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(b"x") * (24 << 20)
        time.sleep(60)
statuses = [os.wait()[1] for _ in range(8)]
os._exit(1)
""",
        anyhow,
        # A kernel that kills one child at a time leaves the parent waiting for the survivors.
        (Verdict.OUT_OF_MEMORY, Verdict.TIMED_OUT),
        limits=limits(memory_bytes=96 * _MIB, wall_seconds=1.5),
        without_cgroups=True,
    ),
    Program(
        "memory-in-shared-mapping",
        "hide it in a shared anonymous mapping, which counts as file pages",
        """\
import mmap
kept = []
while True:
    kept.append(mmap.mmap(-1, 8 << 20))
    kept[-1].write(b"x" * (8 << 20))
""",
        anyhow,
        _OUT_OF_MEMORY,
        limits=limits(memory_bytes=64 * _MIB),
        elsewhere={
            CONFINED: Otherwise("seccomp refuses such a mapping", (Verdict.EXITED,), anyhow),
        },
        without_cgroups=True,
    ),
    Program(
        "memory-in-memfd",
        "hide it in anonymous files that no mount limits",
        """\
import os
try:
    file = os.memfd_create("hidden")
    while True: os.write(file, b"x" * (4 << 20))
except OSError as error: print("refused")
""",
        anyhow,
        (Verdict.OUT_OF_MEMORY, Verdict.SUCCEEDED),
        limits=limits(memory_bytes=64 * _MIB),
        without_cgroups=True,
    ),
    Program(
        "memory-in-files",
        "fill more disk than it has memory",
        "with open('filler', 'wb', buffering=0) as file:\n"
        "    while True: file.write(b'x' * 65536)\n",
        anyhow,
        (Verdict.OUT_OF_MEMORY, Verdict.DISK_LIMIT),
        limits=limits(memory_bytes=48 * _MIB, disk_bytes=128 * _MIB),
        without_cgroups=True,
    ),
    Program(
        "memory-in-pipes",
        "hide it in the buffers of pipes",
        """\
import fcntl, os
held = 0
try:
    while held < 192 << 20:
        read, write = os.pipe()
        os.set_blocking(write, False)
        try: fcntl.fcntl(write, 1031, 1 << 20)
        except OSError: pass
        try:
            while True: held += os.write(write, b"x" * 65536)
        except BlockingIOError: pass
    print("held")
except OSError: print("refused")
""",
        _nothing_held,
        (Verdict.OUT_OF_MEMORY, Verdict.SUCCEEDED),
        limits=limits(memory_bytes=64 * _MIB),
        elsewhere=_KERNEL_MEMORY,
        without_cgroups=True,
    ),
    Program(
        "memory-in-socket-buffers",
        "hide it in the buffers of socket pairs",
        """\
import socket
kept, held = [], 0
try:
    while held < 192 << 20:
        kept.append(socket.socketpair())
        kept[-1][0].setblocking(False)
        kept[-1][0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        try:
            while True: held += kept[-1][0].send(b"x" * 65536)
        except BlockingIOError: pass
    print("held")
except OSError: print("refused")
""",
        _nothing_held,
        (Verdict.OUT_OF_MEMORY, Verdict.SUCCEEDED),
        limits=limits(memory_bytes=64 * _MIB, wall_seconds=10),
        elsewhere=_KERNEL_MEMORY,
        without_cgroups=True,
    ),
    Program(
        "memory-in-tcp-buffers",
        "hide it in the buffers of connections to itself",
        """\
import socket
kept, held = [], 0
try:
    server = socket.create_server(("127.0.0.1", 0))
    while held < 192 << 20:
        kept.append((socket.create_connection(server.getsockname()), server.accept()[0]))
        for end in kept[-1]:
            end.setblocking(False)
            try:
                while True: held += end.send(b"x" * 65536)
            except BlockingIOError: pass
    print("held")
except OSError: print("refused")
""",
        _nothing_held,
        (Verdict.OUT_OF_MEMORY, Verdict.SUCCEEDED),
        limits=limits(memory_bytes=64 * _MIB, wall_seconds=20),
    ),
    Program(
        "memory-in-kernel-tables",
        "hide it in rules of Landlock, and in a table of futexes",
        """\
import ctypes, struct
libc = ctypes.CDLL(None)
rules = libc.syscall(444, struct.pack("=QQ", 0, 3), ctypes.c_size_t(16), 0)
kept = [libc.syscall(445, rules, 2, struct.pack("=QQ", 1, port), 0) == 0 for port in range(65536)]
print("held" if any(kept) or libc.prctl(78, 1, ctypes.c_ulong(1 << 22), 0, 0) == 0 else "refused")
""",
        _nothing_held,
        (Verdict.OUT_OF_MEMORY, Verdict.SUCCEEDED),
        limits=limits(memory_bytes=64 * _MIB),
        elsewhere=dict.fromkeys(
            (OCI, DOCKER), Otherwise("rules are memory as the cgroup counts it", contained=anyhow)
        ),
        without_cgroups=True,
    ),
    Program(
        "memory-of-a-child",
        "lose a child to the memory limit and go on",
        """\
import os
pid = os.fork()
if pid == 0:
    # Where the kernel has the choice, it is to take the child.
    try: open("/proc/self/oom_score_adj", "w").write("1000")
    except OSError: pass
    kept = []
    while True: kept.append(bytearray(b"x") * (4 << 20))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
        prints("-9\n"),
        limits=limits(memory_bytes=64 * _MIB),
        elsewhere={
            RLIMITS: Otherwise("the watchdog kills the whole box", _OUT_OF_MEMORY, anyhow),
            CONFINED: Otherwise("the watchdog kills the whole box", _OUT_OF_MEMORY, anyhow),
            GVISOR: Otherwise("the kernel sees one process, the sentry", _OUT_OF_MEMORY, anyhow),
        },
    ),
    Program(
        "memory-to-the-brim",
        "come close to the memory limit, then succeed",
        "block = bytearray(b'x') * (40 << 20)\nprint(len(block) >> 20)\n",
        prints("40\n"),
        limits=limits(memory_bytes=96 * _MIB),
        without_cgroups=True,
    ),
    Program(
        "first-process-as-victim",
        "have the kernel take the box's first process when memory ends",
        """\
try: open("/proc/1/oom_score_adj", "w").write("1000")
except OSError: pass
kept = []
while True: kept.append(bytearray(b"x") * (4 << 20))
""",
        anyhow,
        _OUT_OF_MEMORY,
        limits=limits(memory_bytes=64 * _MIB),
    ),
    Program(
        "every-cpu",
        "keep more CPUs busy than it was given",
        """\
import os
for _ in range(7):
    if os.fork() == 0: break
while True: pass
""",
        _used_one_cpu,
        (Verdict.TIMED_OUT,),
        limits=limits(wall_seconds=1.5),
        without_cgroups=True,
    ),
    *(
        Program(
            f"disk-filler-{name}",
            f"fill {called}",
            _FILLER.format(place=place),
            number(4 * _MIB, 16 * _MIB),
            limits=limits(disk_bytes=8 * _MIB),
            without_cgroups=name == "work",
            elsewhere={CONFINED: _KILLED_OVER_DISK},
        )
        for name, called, place in (
            ("work", "its working directory", "."),
            ("tmp", "its folder of temporary files", "{os.environ['TMPDIR']}"),
            ("out", "its output folder", "{os.environ['OUT_DIR']}"),
            ("shm", "`/dev/shm`", "/dev/shm"),
        )
    ),
    Program(
        "disk-full-and-failed",
        "fill the disk, and fail of it",
        "open('filler', 'wb', buffering=0).write(b'x' * (4 << 20))\n"
        "with open('more', 'wb', buffering=0) as file:\n"
        "    while True: file.write(b'x' * 65536)\n",
        anyhow,
        (Verdict.DISK_LIMIT,),
        limits=limits(disk_bytes=8 * _MIB),
        without_cgroups=True,
    ),
    Program(
        "inode-filler",
        "make empty files without end",
        "n = 0\nwhile True:\n    open(str(n), 'w').close()\n    n += 1\n",
        anyhow,
        (Verdict.DISK_LIMIT, Verdict.OUT_OF_MEMORY),
        limits=limits(memory_bytes=64 * _MIB, wall_seconds=60),
        without_cgroups=True,
    ),
    Program(
        "sparse-terabyte",
        "claim a terabyte without writing it",
        "import os\nopen('sparse', 'w').close()\n"
        "try: os.truncate('sparse', 1 << 40)\n"
        "except OSError: pass\n"
        "try: os.posix_fallocate(os.open('sparse', os.O_RDWR), 0, 1 << 40)\n"
        "except OSError: print('refused')\n",
        prints("refused\n"),
        elsewhere={CONFINED: _ALLOTTED_BY_WRITING},
    ),
    Program(
        "deep-folders",
        "nest folders beyond every path limit, and lock the last",
        """\
import os
for n in range(500):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
open(b"\\xff\\n\\x1b[31m", "w").close()
os.chmod(".", 0)
print("ready")
""",
        prints("ready\n"),
        without_cgroups=True,
        elsewhere={CONFINED: _TOO_DEEP},
    ),
    Program(
        "open-files",
        "open files until refused",
        """\
import os
n = 0
try:
    while True:
        os.dup(0)
        n += 1
except OSError: print(n)
""",
        number(100, 1024),
    ),
    Program(
        "huge-arguments",
        "hand a program more arguments than a kernel takes",
        "import os\n"
        "try: os.execv('/bin/true', ['x' * 200_000] * 100)\n"
        "except OSError as error: print(error.errno)\n",
        # E2BIG; gVisor says ENAMETOOLONG.
        lambda result: result.stdout in ("7\n", "36\n"),
    ),
    Program(
        "core-dump",
        "leave its memory as a core file",
        "import os, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-c', 'import os; os.abort()'])\n"
        "print(done.returncode, [name for name in os.listdir() if 'core' in name])\n",
        prints("-6 []\n"),
    ),
)
