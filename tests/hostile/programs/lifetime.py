"""Programs that want to outlive their box, to outwait its deadline, or to be killed wrongly."""

from __future__ import annotations

from domain.contracts.job import Verdict
from tests.support.hostile.case import (
    Otherwise,
    Program,
    anyhow,
    ended_by,
    ended_within,
    every,
    exited,
    limits,
    prints,
)
from tests.support.sandbox.runtimes import GVISOR

_TIMED_OUT = (Verdict.TIMED_OUT,)
_SIGNALLED = (Verdict.SIGNALLED,)
_SHORT = limits(wall_seconds=1)

PROGRAMS = (
    Program(
        "daemon",
        "fork twice into a session of its own and stay",
        """\
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2): os.close(fd)
        os.execvp("sleep", ["sleep", "61"])
    os._exit(0)
os.wait()
print("done")
""",
        every(prints("done\n"), ended_within(20_000)),
        without_cgroups=True,
    ),
    Program(
        "daemon-with-the-output",
        "leave a daemon that holds the output open",
        """\
import os, signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
if os.fork() == 0:
    os.setsid()
    os.execvp("sleep", ["sleep", "61"])
print("done")
""",
        every(prints("done\n"), ended_within(20_000)),
        without_cgroups=True,
    ),
    Program(
        "many-daemons",
        "leave a family of daemons that restart one another",
        """\
import os, time
def haunt():
    while True:
        try:
            if os.fork() == 0: os.setsid()
        except OSError: pass
        time.sleep(0.005)
if os.fork() == 0: haunt()
time.sleep(0.3)
print("done")
""",
        prints("done\n"),
        limits=limits(processes=30),
        elsewhere={
            GVISOR: Otherwise(
                "processes of gVisor's kernel are not the host's, and not counted: memory holds",
                (Verdict.SUCCEEDED, Verdict.OUT_OF_MEMORY, Verdict.SIGNALLED),
                anyhow,
            )
        },
        without_cgroups=True,
    ),
    Program(
        "deaf",
        "ignore every signal and wait",
        """\
import signal, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: time.sleep(60)
""",
        anyhow,
        _TIMED_OUT,
        limits=_SHORT,
        without_cgroups=True,
    ),
    Program(
        "stopped",
        "stop itself",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n",
        anyhow,
        _TIMED_OUT,
        limits=_SHORT,
    ),
    Program(
        "first-process",
        "stop and kill the box's first process",
        """\
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV):
    try: os.kill(1, number)
    except PermissionError: pass
time.sleep(0.1)
print("alive")
""",
        prints("alive\n"),
        without_cgroups=True,
    ),
    Program(
        "kill-everything",
        "kill every process it may signal",
        "import os, signal, time\n"
        "try: os.kill(-1, signal.SIGKILL)\n"
        "except OSError: pass\n"
        "time.sleep(0.1)\nprint('alive')\n",
        prints("alive\n"),
        without_cgroups=True,
    ),
    Program(
        "kill-group",
        "kill its own process group, and with it perhaps its keeper's",
        "import os, signal\nos.kill(0, signal.SIGKILL)\n",
        ended_by(9),
        _SIGNALLED,
    ),
    Program(
        "suicide",
        "end by the signal that the host kills with",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        ended_by(9),
        _SIGNALLED,
        without_cgroups=True,
    ),
    Program(
        "segmentation-fault",
        "crash",
        "import ctypes\nctypes.string_at(8)\n",
        ended_by(11),
        _SIGNALLED,
    ),
    Program(
        "killed-by-a-child",
        "have a child kill it",
        "import os, signal, time\n"
        "if os.fork() == 0: os.kill(os.getppid(), signal.SIGKILL)\n"
        "time.sleep(60)\n",
        ended_by(9),
        _SIGNALLED,
    ),
    Program(
        "closed-and-asleep",
        "close every descriptor, so as to look ended, and stay",
        "import os, time\nos.closerange(0, 1024)\ntime.sleep(60)\n",
        anyhow,
        _TIMED_OUT,
        limits=_SHORT,
        without_cgroups=True,
    ),
    Program(
        "closed-and-failed",
        "close every descriptor, then fail",
        "import os\nos.closerange(0, 1024)\nos._exit(3)\n",
        exited(3),
        (Verdict.EXITED,),
    ),
    Program(
        "another-program",
        "become another program, one that waits",
        "exec sleep 61\n",
        anyhow,
        _TIMED_OUT,
        limits=_SHORT,
        language="shell",
    ),
    Program(
        "dead-leader",
        "end its main thread and go on in another",
        """\
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(__import__("os").uname().machine, 93), 0)
""",
        anyhow,
        _TIMED_OUT,
        limits=_SHORT,
    ),
    Program(
        "blocked-in-the-kernel",
        "wait for a FIFO that nobody opens, in every process it may have",
        "import os\nos.mkfifo('fifo')\n"
        "for _ in range(8):\n    if os.fork() == 0: break\n"
        "open('fifo')\n",
        anyhow,
        _TIMED_OUT,
        limits=_SHORT,
    ),
    Program(
        "no-parent-death-signal",
        "become a subreaper, clear the parent-death signal, leave children",
        """\
import ctypes, os
libc = ctypes.CDLL(None)
libc.prctl(36, 1, 0, 0, 0)
libc.prctl(1, 0, 0, 0, 0)
for _ in range(5):
    if os.fork() == 0:
        libc.prctl(15, b"kworker/0:1", 0, 0, 0)
        os.setpgid(0, 0)
        os.execvp("sleep", ["[kworker/0:1]", "61"])
print("done")
""",
        every(prints("done\n"), ended_within(20_000)),
        without_cgroups=True,
    ),
    Program(
        "no-working-directory",
        "delete the folder that it stands in",
        """\
import os, shutil
where = os.getcwd()
for name in os.listdir(): os.unlink(name)
try: os.rmdir(where)
except OSError: pass
print("gone")
""",
        prints("gone\n"),
    ),
    Program(
        "unread-stdin",
        "never read its standard input",
        "import os\nos.write(1, b'done\\n')\n",
        prints("done\n"),
        stdin="x" * 200_000,
    ),
    Program(
        "killed-on-request",
        "fork and ignore signals while an operator has it killed",
        """\
import os, signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
""",
        ended_within(20_000),
        (Verdict.KILLED_BY_OPERATOR,),
        limits=limits(processes=30, wall_seconds=30),
        elsewhere={
            GVISOR: Otherwise(
                "processes of gVisor's kernel are not the host's, and not counted: memory holds",
                (Verdict.KILLED_BY_OPERATOR, Verdict.OUT_OF_MEMORY),
            )
        },
        killed_after=0.4,
        without_cgroups=True,
    ),
)
