"""Programs that attack whoever reads what they print."""

from __future__ import annotations

from domain.contracts.job import SandboxResult, Verdict
from tests.support.hostile.case import Program, every, limits, prints

#: One write(2) may take less than it is given, and does under gVisor.
_WRITE_ALL = """\
import os
left = {}
while left: left = left[os.write(1, left):]
"""

_FLOOD = (Verdict.OUTPUT_LIMIT,)
_KEPT = 64 * 1024


def _stays_small(result: SandboxResult) -> bool:
    return len(result.stdout) <= _KEPT and len(result.stderr) <= _KEPT


def _is_clean_text(result: SandboxResult) -> bool:
    again = SandboxResult.model_validate_json(result.model_dump_json())
    return (
        again == result
        and "\0" not in result.stdout
        and "\N{REPLACEMENT CHARACTER}" in again.stdout
    )


def _fits_a_message(result: SandboxResult) -> bool:
    """Beside the fields of a result, its text takes no more than the cap as JSON."""
    return len(result.model_dump_json()) < _KEPT + 4096


PROGRAMS = (
    Program(
        "endless-stdout",
        "print without end",
        "import sys\nwhile True: sys.stdout.write('x' * 65536)\n",
        every(_stays_small, lambda result: result.stdout_truncated),
        _FLOOD,
        limits=limits(wall_seconds=20),
        without_cgroups=True,
    ),
    Program(
        "endless-stderr",
        "print errors without end",
        "import os\nwhile True: os.write(2, b'x' * 65536)\n",
        every(_stays_small, lambda result: result.stderr_truncated and not result.stdout),
        _FLOOD,
        limits=limits(wall_seconds=20),
    ),
    Program(
        "endless-both",
        "print to both streams from several processes",
        "import os\nfor _ in range(3): os.fork()\n"
        "while True:\n    os.write(1, b'o' * 4096)\n    os.write(2, b'e' * 4096)\n",
        _stays_small,
        _FLOOD,
        limits=limits(wall_seconds=20),
    ),
    Program(
        "one-line",
        "print one line of a megabyte and no newline",
        _WRITE_ALL.format("b'x' * (1 << 20)"),
        lambda result: result.stdout_bytes == 1 << 20 and len(result.stdout) == _KEPT,
    ),
    Program(
        "not-text",
        "print NUL, invalid UTF-8, lone surrogates and terminal commands",
        "import os\n"
        "os.write(1, b'\\0\\xff\\xfe\\xed\\xa0\\x80\\x1b[2J\\x1b]0;owned\\x07\\x9b\\r\\n')\n",
        _is_clean_text,
    ),
    Program(
        "escapes",
        "print what JSON takes six bytes for",
        "import sys\nsys.stdout.write('\\x01' * 100_000)\n",
        _fits_a_message,
    ),
    Program(
        "cut-character",
        "have a character lie across the cut",
        _WRITE_ALL.format("('x' + '\\U0001F600' * 40_000).encode()"),
        lambda result: set(result.stdout) == {"x", "\U0001f600"} and _fits_a_message(result),
    ),
    Program(
        "stream-frames",
        "print the frame headers of the engine's stream",
        "import os\nos.write(1, b'\\x02\\0\\0\\0\\0\\0\\0\\x04fake' * 3)\n",
        lambda result: result.stdout_bytes == 36 and not result.stderr,
    ),
    Program(
        "runtime-signs",
        "print the byte with which a box says that it is laid out",
        "import os\nos.write(1, b'\\x06\\n\\x06done\\n')\n",
        prints("\x06\n\x06done\n"),
    ),
    Program(
        "slow-drip",
        "keep printing to the deadline",
        "import os, time\nwhile True:\n    os.write(1, b'drip\\n')\n    time.sleep(0.02)\n",
        lambda result: result.stdout.startswith("drip\n" * 5),
        (Verdict.TIMED_OUT,),
        limits=limits(wall_seconds=3),
    ),
    Program(
        "printing-orphan",
        "leave a child that goes on printing",
        "import os\nif os.fork() == 0:\n    while True: os.write(1, b'x' * 4096)\nos._exit(0)\n",
        _stays_small,
        # The flood may have passed the cap before the program's end was seen.
        (Verdict.SUCCEEDED, Verdict.OUTPUT_LIMIT),
        without_cgroups=True,
    ),
    Program(
        "spoilt-pipes",
        "make its output non-blocking, tiny, and read it back",
        """\
import fcntl, os
for fd in (1, 2):
    os.set_blocking(fd, False)
    try: fcntl.fcntl(fd, 1031, 4096)
    except OSError: pass
    try: os.set_blocking(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), False)
    except OSError: pass
for _ in range(10_000):
    try: os.write(1, b"x" * 100)
    except BlockingIOError: pass
""",
        _stays_small,
    ),
    Program(
        "nothing-at-all",
        "close its output and succeed",
        "import os\nos.close(1); os.close(2)\n",
        prints(""),
    ),
)
