"""Attempts to read what is the host's or another job's."""

from __future__ import annotations

from tests.support.hostile.case import Probe, Program, prints
from tests.support.sandbox.runtimes import BUBBLEWRAP, CONFINED, GVISOR

_SENTRY = "the sentry answers with its own, not the host's"
_KEEPER = {
    BUBBLEWRAP: "PID 1 is `bwrap`, of the same user, with nothing of the host's in it",
    GVISOR: "PID 1 is the box's own agent, not hidden; nothing of the host's is in it",
}

_IN_FILES_OF_PROCESSES = """\
for path in glob.glob('/proc/[0-9]*/{}'):
    try: found = open(path, errors='replace').read()
    except OSError: continue
    if holds_decoy(found): break
else: raise Refused
"""

PROBES = (
    Probe("shadow", "the host's password hashes", "open('/etc/shadow').read()"),
    Probe(
        "host-users",
        "the host's user names",
        """\
users = open('/etc/passwd').read()  # an image has users of its own
reached('daemon' in users and 'sandbox:x:62000:' not in users)
""",
        open_on={CONFINED: "programs look up names of users; they are the container's"},
    ),
    Probe("decoy-file", "a world-readable file of the host", "open(decoys['folder'] + '/secret')"),
    Probe(
        "decoy-through-first-process",
        "the same through the root of PID 1",
        "open('/proc/1/root' + decoys['folder'] + '/secret')",
    ),
    Probe(
        "decoy-through-every-process",
        "the same through the root and folder of every process",
        """\
for link in (*glob.glob('/proc/[0-9]*/root'), *glob.glob('/proc/[0-9]*/cwd')):
    try: open(link + '/../../../../..' + decoys['folder'] + '/secret'); break
    except OSError: pass
else: raise Refused
""",
    ),
    Probe(
        "decoy-through-descriptors",
        "the same through descriptors that were left open",
        """\
for fd in range(3, 1024):
    try: os.open('../../../..' + decoys['folder'] + '/secret', os.O_RDONLY, dir_fd=fd); break
    except OSError: pass
else: raise Refused
""",
    ),
    Probe("home", "the home of the host's user", "os.listdir(decoys['home'])"),
    Probe("repository", "the folder of the host's own program", "os.listdir(decoys['repository'])"),
    Probe(
        "docker-socket",
        "whether there is an engine's socket",
        "os.stat('/var/run/docker.sock')",
        open_on={CONFINED: "Landlock keeps it from contents, not from learning that a file exists"},
    ),
    Probe("docker-data", "the engine's data", "os.listdir('/var/lib/docker')"),
    Probe(
        "environment-of-host",
        "secrets in the environment of the host's processes",
        _IN_FILES_OF_PROCESSES.format("environ"),
    ),
    Probe(
        "arguments-of-host",
        "secrets in the arguments of the host's processes",
        _IN_FILES_OF_PROCESSES.format("cmdline"),
    ),
    Probe(
        "host-processes",
        "which processes the host has",
        "reached(os.path.exists(f\"/proc/{decoys['pid']}\") and "
        "b'read' in open(f\"/proc/{decoys['pid']}/cmdline\", 'rb').read())",
    ),
    Probe("memory-of-first-process", "the memory of PID 1", "open('/proc/1/mem', 'rb').read(1)"),
    Probe(
        "map-of-first-process",
        "the memory map of PID 1",
        "reached(open('/proc/1/maps').read())",
        open_on=_KEEPER,
    ),
    Probe(
        "environment-of-first",
        "the environment of PID 1",
        "reached(open('/proc/1/environ').read())",
        open_on=_KEEPER,
    ),
    Probe(
        "descriptors-of-first-process",
        "which files PID 1 has open",
        "reached(os.readlink('/proc/1/fd/0'))",
        open_on=_KEEPER,
    ),
    Probe("kernel-memory", "the kernel's memory", "reached(open('/proc/kcore', 'rb').read(64))"),
    Probe(
        "kernel-symbols",
        "addresses of the kernel",
        "reached(any(int(line.split()[0], 16) for line in open('/proc/kallsyms')))",
    ),
    Probe("kernel-messages", "the kernel's messages by file", "os.open('/dev/kmsg', os.O_RDONLY)"),
    Probe("kernel-messages-proc", "and by another file", "os.open('/proc/kmsg', os.O_RDONLY)"),
    Probe(
        "kernel-messages-call",
        "and by system call",
        "reached(libc.klogctl(3, ctypes.create_string_buffer(4096), 4096) > 0)",
        open_on={GVISOR: _SENTRY + ": invented messages"},
    ),
    Probe("physical-memory", "the machine's memory", "os.open('/dev/mem', os.O_RDONLY)"),
    Probe("io-ports", "the machine's ports", "os.open('/dev/port', os.O_RDONLY)"),
    Probe(
        "disks",
        "block devices",
        """\
kinds = ('vd', 'sd', 'nvme', 'xvd', 'loop', 'dm-')
for path in [path for kind in kinds for path in glob.glob(f'/dev/{kind}*')]:
    try: open(path, 'rb').read(512); break
    except OSError: pass
else: raise Refused
""",
    ),
    Probe("terminals", "terminals of others", "reached(glob.glob('/dev/pts/[0-9]*'))"),
    Probe(
        "host-name",
        "the host's name",
        "reached(socket.gethostname() == decoys['host'])",
        open_on={CONFINED: "no UTS namespace: it is the container's name"},
    ),
    Probe(
        "shared-memory-file",
        "shared memory of the host that everybody may read",
        "open(decoys['shared'])",
        open_on={
            CONFINED: "programs need /dev/shm for semaphores, and it is the container's: it cannot"
            " be listed, and what only its owner may read stays its owner's"
        },
    ),
    Probe(
        "shared-memory-segment",
        "a System V segment of the host that everybody may read",
        "reached(libc.shmget(decoys['key'], 4096, 0o444) >= 0)",
    ),
    Probe(
        "shared-memory-list",
        "the list of the host's segments",
        "reached(len(open('/proc/sysvipc/shm').read().splitlines()) > 1)",
    ),
    Probe("message-queues", "POSIX queues", "reached(os.listdir('/dev/mqueue'))"),
    Probe("keys", "the kernel's keys", "reached(open('/proc/keys').read())"),
    Probe("timers", "the kernel's timers", "reached(open('/proc/timer_list').read())"),
    Probe("firmware", "the machine's firmware tables", "reached(os.listdir('/sys/firmware'))"),
    Probe(
        "power-meter",
        "the machine's power meter, which leaks what others compute",
        "reached(glob.glob('/sys/class/powercap/*/energy_uj'))",
    ),
    Probe(
        "cgroup-files",
        "the host's cgroups",
        "reached(glob.glob('/sys/fs/cgroup/**/qlp-sandbox-*', recursive=True))",
    ),
)

_ENVIRONMENT = ["HOME", "LANG", "OUT_DIR", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE"]
_EXPECTED = sorted([*_ENVIRONMENT, "PYTHONUNBUFFERED", "TMPDIR", "USER", "APP_DECOYS", "APP_MARK"])

PROGRAMS = (
    Program(
        "environment",
        "find in its own environment more than it was given",
        "import os\n"
        "print(sorted(name for name in os.environ if name not in ('LC_CTYPE', 'SHLVL', '_')))\n",
        prints(f"{_EXPECTED}\n"),
        without_cgroups=True,
    ),
    Program(
        "descriptors",
        "find descriptors that were left open for it",
        "import os\nprint(sorted(os.listdir('/proc/self/fd'), key=int)[:-1])\n",
        prints("['0', '1', '2']\n"),
        without_cgroups=True,
    ),
    Program(
        "identity",
        "find itself with rights: user, groups, capabilities, a way to gain more",
        """\
import ctypes, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
held = [name for name in ("CapInh", "CapPrm", "CapEff") if int(status[name], 16)]
no_new_privileges = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)
print(os.getuid() == 0, os.getgid() == 0, 0 in os.getgroups(), held, no_new_privileges)
""",
        prints("False False False [] 1\n"),
        without_cgroups=True,
    ),
    Program(
        "links",
        "reach outside through links of its own",
        """\
import os
os.symlink("/etc/shadow", "link"); os.symlink("/proc/1/root/root", "up")
for action in (lambda: open("link").read(), lambda: os.listdir("up"),
               lambda: os.link("/usr/bin/env", "hard")):
    try: action()
    except OSError: pass
    else: print("escaped")
print("done")
""",
        prints("done\n"),
        without_cgroups=True,
    ),
)
