"""Programs that attack the collection of their output folder."""

from __future__ import annotations

from domain.contracts.job import SandboxResult, Verdict
from tests.support.hostile.case import Otherwise, Predicate, Program, anyhow, every, limits, prints
from tests.support.sandbox.runtimes import CONFINED, GVISOR

_MIB = 1 << 20


def _names(*expected: str) -> Predicate:
    return lambda result: tuple(artifact.name for artifact in result.artifacts) == expected


def _skipped(*expected: str) -> Predicate:
    return lambda result: set(expected) <= {skipped.name for skipped in result.skipped_artifacts}


def _names_are_safe(result: SandboxResult) -> bool:
    return all(
        not any(character < " " or character in "\x7f\\" for character in artifact.name)
        and not artifact.name.startswith("/")
        and ".." not in artifact.name.split("/")
        for artifact in result.artifacts
    )


PROGRAMS = (
    Program(
        "symbolic-links",
        "hand over links to the host's files and folders",
        """\
import os
os.chdir(os.environ["OUT_DIR"])
os.symlink("/etc/shadow", "shadow")
os.symlink("/", "root")
os.symlink("/proc/self/environ", "environment")
os.symlink("../../../../etc/passwd", "up")
open("honest", "w").write("x")
""",
        every(_names("honest"), _skipped("shadow", "root", "environment", "up")),
        without_cgroups=True,
    ),
    Program(
        "hard-links",
        "hand over second names of files that it may read",
        """\
import os
out = os.environ["OUT_DIR"]
for path in ("/etc/passwd", "/usr/bin/env", "/proc/1/environ"):
    try: os.link(path, out + "/stolen")
    except OSError: pass
open(out + "/a", "w").write("x")
os.link(out + "/a", out + "/b")
""",
        every(_names(), _skipped("a", "b")),
    ),
    Program(
        "special-files",
        "hand over a FIFO, a socket and a device",
        """\
import os, socket, stat
os.chdir(os.environ["OUT_DIR"])
os.mkfifo("fifo")
try: socket.socket(socket.AF_UNIX).bind("socket")
except OSError: open("socket", "w").close(); os.unlink("socket"); os.mkfifo("socket")
try: os.mknod("device", 0o666 | stat.S_IFBLK, os.makedev(254, 0)); print("made")
except OSError: pass
""",
        every(_names(), _skipped("fifo", "socket"), prints("")),
        elsewhere={
            GVISOR: Otherwise(
                "gVisor keeps FIFOs and sockets to itself: there is nothing to collect",
                contained=every(_names(), prints("")),
            )
        },
        without_cgroups=True,
    ),
    Program(
        "sparse-artifact",
        "hand over a terabyte of nothing",
        "import os\n"
        "path = os.environ['OUT_DIR'] + '/sparse'\nopen(path, 'w').close()\n"
        "try: os.truncate(path, 1 << 40)\nexcept OSError: os.truncate(path, 30 << 20)\n",
        every(_names(), _skipped("sparse")),
    ),
    Program(
        "many-files",
        "hand over as many files as can be made",
        """\
import os
os.chdir(os.environ["OUT_DIR"])
try:
    for n in range(100_000): os.close(os.open(str(n), os.O_CREAT | os.O_WRONLY))
except OSError: pass
print("made")
""",
        lambda result: len(result.artifacts) <= 64 and len(result.skipped_artifacts) <= 16,
        (Verdict.SUCCEEDED, Verdict.DISK_LIMIT, Verdict.OUT_OF_MEMORY),
        limits=limits(wall_seconds=60),
    ),
    Program(
        "odd-names",
        "hand over names that another system would misread",
        r"""
import os
os.chdir(os.environ["OUT_DIR"])
for name in (b"new\nline", b"back\\slash", b"\xff\xfe", b"\x1b[31mred", b"..\\up",
             "\u202egpj.exe".encode(), "..\u2044..\u2044etc".encode(), b"n" * 255, b" ", b"-rf",
             b"...", b"C:con", "\u00e9".encode(), "e\u0301".encode()):
    try: open(name, "w").close()
    except OSError: pass
print("ready")
""",
        every(_names_are_safe, prints("ready\n")),
    ),
    Program(
        "changing-artifact",
        "leave children that rewrite the folder while it is collected",
        """\
import os, time
os.chdir(os.environ["OUT_DIR"])
for n in range(4):
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                with open("file", "wb") as file: file.write(bytes([n]) * 9000)
                os.symlink("/etc/shadow", f"link{n}"); os.rename(f"link{n}", "other")
                os.rename("other", "file")
            except OSError: pass
time.sleep(0.3)
""",
        lambda result: all(a.size <= 9000 for a in result.artifacts),
    ),
    Program(
        "locked-folders",
        "hand over folders and files without permissions",
        """\
import os
os.chdir(os.environ["OUT_DIR"])
os.mkdir("locked"); open("locked/file", "w").write("x"); os.chmod("locked", 0)
open("secret", "w").write("x"); os.chmod("secret", 0)
os.chmod(".", 0)
print("locked")
""",
        prints("locked\n"),
        without_cgroups=True,
        needs="own user",
    ),
    Program(
        "replaced-folder",
        "replace the output folder by a link to the host's",
        """\
import os, shutil
out = os.path.realpath(os.environ["OUT_DIR"])
open(out + "/before", "w").write("x")
for path in {out, "/out", os.path.dirname(out)}:
    try:
        os.rename(path, path + ".moved")
        os.symlink("/etc", path)
    except OSError: pass
""",
        lambda result: {artifact.name for artifact in result.artifacts} <= {"before"},
        without_cgroups=True,
    ),
    Program(
        "too-large",
        "hand over more than may be collected",
        "import os\n"
        "os.chdir(os.environ['OUT_DIR'])\n"
        "for name in 'abc': open(name, 'wb').write(b'x' * 700_000)\n",
        every(_names("a"), _skipped("b", "c")),
        limits=limits(artifact_bytes=_MIB),
    ),
    Program(
        "deep-artifact",
        "hand over a file below hundreds of folders",
        """\
import os
os.chdir(os.environ["OUT_DIR"])
for _ in range(300):
    os.mkdir("d" * 50); os.chdir("d" * 50)
open("deep", "w").write("x")
""",
        _names(),
        elsewhere={
            CONFINED: Otherwise(
                "what lies too deep to be measured is taken for too much",
                (Verdict.SUCCEEDED, Verdict.DISK_LIMIT),
            )
        },
    ),
    Program(
        "privileged-artifact",
        "hand over a program that would run as its owner",
        """\
import os
path = os.environ["OUT_DIR"] + "/tool"
open(path, "w").write("#!/bin/sh\\nid -u")
try: os.chmod(path, 0o6755)
except OSError: pass
""",
        _names("tool"),
    ),
    Program(
        "input-rewritten",
        "change the read-only copies of its files",
        """\
import os
for attempt in (lambda: open("/in/main.py", "a"), lambda: os.unlink("/in/main.py"),
                lambda: open("/in/more", "w"), lambda: os.chmod("/in/main.py", 0o777),
                lambda: os.rename("/in", "/in2")):
    try: attempt()
    except OSError: pass
    else: print("changed")
""",
        prints(""),
        elsewhere={CONFINED: Otherwise("there is no /in, only its own copy", contained=anyhow)},
    ),
)
