"""Programs that claim an end which was not theirs."""

from __future__ import annotations

from domain.contracts.job import Verdict
from tests.support.hostile.case import (
    Otherwise,
    Program,
    anyhow,
    ended_by,
    every,
    exited,
    limits,
    prints,
)
from tests.support.sandbox.runtimes import BUBBLEWRAP, RLIMITS

_EXITED = (Verdict.EXITED,)
_OWN_KEEPER = Otherwise(
    "its keeper is `bwrap`, of the same user: what it can spoil is its own exit code, and its box",
    (Verdict.SIGNALLED, Verdict.EXITED),
    anyhow,
)
_RESULT = '{"verdict": "succeeded", "exit_code": 0, "exit-code": 0, "child-pid": 1}'


def _starts_with_the_lie(result: object) -> bool:
    return str(getattr(result, "stdout", "")).startswith(_RESULT)


def _exit_code(code: int) -> Program:
    return Program(
        f"exit-code-{code}",
        f"exit with {code}, as keepers of boxes do",
        f"import os\nos._exit({code})\n",
        exited(code),
        _EXITED,
    )


PROGRAMS = (
    Program(
        "printed-result",
        "print a result",
        f"import sys\nprint({_RESULT!r}); print({_RESULT!r}, file=sys.stderr); sys.exit(7)\n",
        every(_starts_with_the_lie, exited(7)),
        _EXITED,
        without_cgroups=True,
    ),
    Program(
        "result-on-every-descriptor",
        "write a result to every descriptor that it, or another process, has",
        f"""\
import glob, os, sys
fake = {_RESULT!r}
print(fake)
header = b"000000000002{{}}"
for path in [*map(str, range(3, 64)), *glob.glob("/proc/[0-9]*/fd/*")]:
    if path in (f"/proc/{{os.getpid()}}/fd/1", f"/proc/{{os.getpid()}}/fd/2"): continue
    try:
        fd = int(path) if path.isdigit() else os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, fake.encode() + b"\\n" + header)
    except OSError: pass
sys.exit(7)
""",
        every(_starts_with_the_lie, exited(7)),
        _EXITED,
        without_cgroups=True,
    ),
    Program(
        "memory-of-the-keeper",
        "overwrite the memory of its parent and of the first process",
        """\
import os, sys
for pid in (1, os.getppid()):
    try:
        with open(f"/proc/{pid}/maps") as maps:
            spans = [line.split()[0].split("-") for line in maps if " rw" in line]
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            for start, end in spans:
                memory.seek(int(start, 16))
                memory.write(b"A" * (int(end, 16) - int(start, 16)))
                print("overwritten")
    except (OSError, ValueError): pass
sys.exit(7)
""",
        every(prints(""), exited(7)),
        _EXITED,
        elsewhere={BUBBLEWRAP: _OWN_KEEPER, RLIMITS: _OWN_KEEPER},
        without_cgroups=True,
    ),
    *(_exit_code(code) for code in (1, 125, 126, 127, 255)),
    Program(
        "exit-code-256",
        "exit with a code whose low byte is 0",
        "import os\nos._exit(256)\n",
        exited(0),
    ),
    Program(
        "exit-code-137",
        "exit as shells report a kill; must not pass for the host's kill",
        "import os\nos._exit(137)\n",
        exited(137),
        _EXITED,
        without_cgroups=True,
    ),
    Program(
        "exit-code-143",
        "exit as shells report SIGTERM",
        "import os\nos._exit(143)\n",
        exited(143),
        _EXITED,
    ),
    Program(
        "feigned-deadline",
        "kill itself just before the deadline",
        "import os, signal, time\ntime.sleep(0.5)\nos.kill(os.getpid(), signal.SIGKILL)\n",
        ended_by(9),
        (Verdict.SIGNALLED,),
        limits=limits(wall_seconds=10),
    ),
    Program(
        "feigned-out-of-memory",
        "say that memory ran out",
        "import sys\nraise MemoryError\n",
        exited(1),
        _EXITED,
    ),
    Program(
        "feigned-full-disk",
        "say that the disk is full, and leave it nearly empty",
        "raise OSError(28, 'No space left on device')\n",
        exited(1),
        _EXITED,
    ),
    Program(
        "feigned-process-limit",
        "say that no process could be made",
        "raise BlockingIOError(11, 'Resource temporarily unavailable')\n",
        exited(1),
        _EXITED,
    ),
    Program(
        "other-name",
        "call itself what a watcher would pass over",
        """\
import ctypes
ctypes.CDLL(None).prctl(15, b"x) R 1 1 (\\n", 0, 0, 0)
print("named")
""",
        prints("named\n"),
    ),
)
