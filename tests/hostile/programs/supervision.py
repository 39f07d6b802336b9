"""Attacks on what supervises a program: its box's first process, and whatever else it can name.

Nothing that a program does may look like a fault of the host: that would be tried again, four
times, and lose what was recorded of it.
"""

from __future__ import annotations

from domain.contracts.job import Verdict
from tests.support.hostile.case import Otherwise, Probe, Program, every, exited, limits, prints
from tests.support.sandbox.runtimes import BUBBLEWRAP, CONFINED, GVISOR, RLIMITS

_SENTRY = "the sentry keeps the number and schedules by nothing of it"
_OWN_BOX = "PID 1 is `bwrap`, of the same user, and only waits: it is its own box's"


def _of_others(
    name: str, tries: str, call: str, *, sentry: bool = False, bwrap: bool = False
) -> Probe:
    """Do ``call`` to PID 1, then to a process of the host's."""
    action = f"""\
import fcntl, resource
for victim in (1, decoys['pid']):
    try: {call}
    except OSError: continue
    break
else: raise Refused
"""
    found_open = {
        **({GVISOR: _SENTRY} if sentry else {}),
        **({BUBBLEWRAP: _OWN_BOX} if bwrap else {}),
    }
    return Probe(name, tries, action, found_open)


PROBES = (
    *(
        _of_others(
            f"limit-{limit.lower()}-of-others",
            f"take another process's RLIMIT_{limit} away",
            f"resource.prlimit(victim, resource.RLIMIT_{limit}, (0, 0))",
        )
        for limit in ("NOFILE", "CPU", "AS", "DATA", "FSIZE", "SIGPENDING")
    ),
    _of_others("stop-others", "stop another process", "os.kill(victim, 19)", bwrap=True),
    _of_others(
        "stop-others-by-descriptor",
        "stop another process by its descriptor",
        "signal.pidfd_send_signal(os.pidfd_open(victim), 19)",
        bwrap=True,
    ),
    _of_others(
        "renice-others",
        "give another process the lowest priority",
        "os.setpriority(os.PRIO_PROCESS, victim, 19)",
        sentry=True,
        bwrap=True,
    ),
    _of_others(
        "ioprio-of-others",
        "the same for its input and output",
        "syscall(251, 1, victim, 3 << 13)",
        sentry=True,
        bwrap=True,
    ),
    _of_others(
        "scheduler-of-others",
        "have another process run when nothing else does",
        "os.sched_setscheduler(victim, os.SCHED_IDLE, os.sched_param(0))",
        sentry=True,
        bwrap=True,
    ),
    _of_others(
        "affinity-of-others",
        "bind another process to one CPU",
        "os.sched_setaffinity(victim, {min(os.sched_getaffinity(0))})",
        sentry=True,
        bwrap=True,
    ),
    _of_others("group-of-others", "move another process to a group", "os.setpgid(victim, victim)"),
    _of_others(
        "memory-of-others",
        "write to another process's memory by its file",
        "os.open(f'/proc/{victim}/mem', os.O_RDWR)",
        bwrap=True,
    ),
    *(
        _of_others(
            f"{name.replace('_', '-')}-of-others",
            f"change another process by `/proc/PID/{name}`",
            f"write(f'/proc/{{victim}}/{name}', '1')",
            bwrap=True,
        )
        for name in ("coredump_filter", "timerslack_ns", "clear_refs")
    ),
    _of_others(
        "descriptors-of-others",
        "open what another process has open",
        "os.open(f'/proc/{victim}/fd/0', os.O_RDONLY)",
        bwrap=True,
    ),
    Probe(
        "machine-wide-aio",
        "take all of the machine's asynchronous input and output",
        "syscall(206, 65536, ctypes.create_string_buffer(8))",
        {GVISOR: "the sentry implements it, and no quota of the host's is touched"},
        machine="x86_64",
    ),
)

#: Everything at once that a signal, a limit or a schedule can do to whatever can be named.
_ATTACK_ALL = """\
import fcntl, os, resource, signal, sys, time
print("before", flush=True)
try: pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
except OSError: pids = [1, os.getppid()]
own = os.getpid()
def attempt(call, *arguments):
    try: call(*arguments)
    except (OSError, ValueError): pass
for pid in pids:
    if pid == own: continue
"""

PROGRAMS = (
    Program(
        "limits-of-others",
        "take all limits of all processes away, and have descriptors signal them",
        _ATTACK_ALL
        + """\
    for limit in range(16): attempt(resource.prlimit, pid, limit, (0, 0))
    read, written = os.pipe()
    attempt(fcntl.fcntl, read, 8, pid)
    attempt(fcntl.fcntl, read, 10, signal.SIGKILL)
    attempt(fcntl.fcntl, read, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(written, b"x")
time.sleep(0.2)
print("after", flush=True)
sys.exit(3)
""",
        every(prints("before\nafter\n"), exited(3)),
        (Verdict.EXITED,),
        without_cgroups=True,
    ),
    Program(
        "scheduling-of-others",
        "have everything else run last, and keep all CPUs busy",
        _ATTACK_ALL
        + """\
    attempt(os.setpriority, os.PRIO_PROCESS, pid, 19)
    attempt(os.sched_setscheduler, pid, os.SCHED_IDLE, os.sched_param(0))
    attempt(os.sched_setaffinity, pid, {min(os.sched_getaffinity(0))})
    attempt(os.kill, pid, signal.SIGSTOP)
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        while True: pass
time.sleep(0.3)
print("after", flush=True)
os._exit(3)
""",
        every(prints("before\nafter\n"), exited(3)),
        (Verdict.EXITED,),
        without_cgroups=True,
    ),
    Program(
        "memory-of-the-first-process",
        "overwrite the first process's memory",
        """\
import os, sys
print("before", flush=True)
try:
    memory = os.open("/proc/1/mem", os.O_RDWR)
    for line in open("/proc/1/maps"):
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        try: os.pwrite(memory, bytes(end - start), start)
        except (OSError, OverflowError): pass
except OSError: print("refused", flush=True)
sys.exit(3)
""",
        every(prints("before\nrefused\n"), exited(3)),
        (Verdict.EXITED,),
        elsewhere={
            name: Otherwise(
                "PID 1 is `bwrap`, of the same user: the box ends, which is the program's doing",
                (Verdict.SIGNALLED, Verdict.EXITED),
                prints("before\n"),
            )
            for name in (BUBBLEWRAP, RLIMITS)
        },
        without_cgroups=True,
    ),
    Program(
        "starved-supervisor",
        "leave no memory, process or descriptor, having itself spared when memory ends",
        """\
import os, sys, time
print("before", flush=True)
def spare():
    try: open("/proc/self/oom_score_adj", "w").write("0")
    except OSError: pass
spare()
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
children = 0
try:
    while children < 40:
        if os.fork() == 0:
            block = bytearray(b"x") * (4 << 20)
            time.sleep(60)
        children += 1
        time.sleep(0.01)
except OSError: pass
time.sleep(0.5)
print("after", flush=True)
os._exit(3)
""",
        lambda result: result.stdout in ("before\n", "before\nafter\n"),
        (Verdict.EXITED, Verdict.OUT_OF_MEMORY, Verdict.PROCESS_LIMIT),
        limits=limits(memory_bytes=96 << 20, processes=64),
        without_cgroups=True,
        elsewhere={
            CONFINED: Otherwise(
                "4,096 files that all its processes have open are over the disk limit there",
                (Verdict.DISK_LIMIT, Verdict.OUT_OF_MEMORY, Verdict.PROCESS_LIMIT),
                lambda result: result.stdout in ("before\n", "before\nafter\n"),
            )
        },
    ),
)
