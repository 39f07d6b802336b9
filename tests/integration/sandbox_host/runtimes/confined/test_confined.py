"""What keeps confined programs from the host and from each other, and where they run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from domain.contracts.job import Verdict
from sandbox_host.linux.box_users import CONFINED_USERS
from sandbox_host.run import job as jobs
from sandbox_host.run.job import InvalidJob
from sandbox_host.runtimes.base import RunControl
from sandbox_host.runtimes.confined import folder as confined_folder
from sandbox_host.runtimes.confined import runtime as confined
from sandbox_host.runtimes.confined import users as confined_users
from sandbox_host.runtimes.confined.process import Launcher
from sandbox_host.runtimes.confined.runtime import ConfinedRuntime
from tests.support import ROOT
from tests.support.sandbox.runtimes import (
    dead_host_tag,
    ensure_image,
    needs,
    open_runtime,
    prepared,
    run,
)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def programs() -> AsyncIterator[ConfinedRuntime]:
    """The runtime, as root where the tests are."""
    opened = await open_runtime("confined")
    assert isinstance(opened, ConfinedRuntime)
    yield opened
    await opened.aclose()


def _attempt(action: str) -> str:
    return (
        f"import os\ntry:\n    {action}\n    print('escaped')\nexcept OSError: print('contained')\n"
    )


@pytest.mark.parametrize(
    "action",
    [
        "open('/etc/shadow')",
        "os.listdir('/root')",
        "os.listdir('/tmp')",
        "os.listdir('/proc')",
        "open('/proc/HOST/environ')",
        "open('/proc/HOST/cmdline')",
        "os.readlink('/proc/HOST/cwd')",
        "os.listdir('/proc/HOST/fd')",
        "open('/tmp/qlp-evil', 'w')",
        "open('/dev/shm/../../tmp/qlp-evil', 'w')",
        "open(os.environ['HOME'] + '/../../../qlp-evil', 'w')",
        "os.listdir('/dev/shm')",
        "open('/dev/kmsg')",
        "__import__('socket').socket()",
        "__import__('socket').socket(__import__('socket').AF_UNIX)",
        "__import__('socket').socket(__import__('socket').AF_NETLINK, 3)",
        "os.kill(HOST, 0)",
        "os.kill(os.getppid(), 9)",
        "os.kill(1, 0)",
        "os.setuid(0)",
        "__import__('mmap').mmap(-1, 4096)",
        "open('/dev/zero', 'r+b')",
        "os.setpriority(os.PRIO_USER, 0, 19)",
        "__import__('resource').prlimit(HOST, __import__('resource').RLIMIT_NOFILE)",
        "os.mknod('device', 0o600 | 0o020000, os.makedev(1, 1))",
        "os.link('/etc/passwd', 'linked')",
        "os.symlink('/etc/shadow', 's'); open('s')",
    ],
)
async def test_the_host_is_out_of_reach(programs: ConfinedRuntime, action: str) -> None:
    result = await run(programs, prepared(_attempt(action.replace("HOST", str(os.getpid())))))
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "contained\n"), result.stderr


async def test_two_programs_do_not_see_or_signal_each_other(programs: ConfinedRuntime) -> None:
    started = asyncio.Event()
    where: list[bytes] = []

    def note(_: str, data: bytes) -> None:
        where.append(data)
        started.set()

    control = RunControl(on_output=note)
    waiting = (
        "import os, time\n"
        "os.makedirs(os.environ['OUT_DIR'], exist_ok=True); open('secret', 'w').write('mine')\n"
        "os.write(1, f'{os.getpid()} {os.getcwd()}'.encode()); time.sleep(60)\n"
    )
    first = asyncio.create_task(programs.run(prepared(waiting, wall_seconds=60), control))
    await asyncio.wait_for(started.wait(), 60)
    pid, folder = b"".join(where).decode().split()
    for action in (
        f"os.kill({pid}, 9)",
        f"open('{folder}/secret')",
        f"os.listdir('{folder}')",
        f"os.listdir('{Path(folder).parent.parent}')",
        f"open('/proc/{pid}/environ')",
    ):
        result = await run(programs, prepared(_attempt(action)))
        assert result.stdout == "contained\n", (action, result.stderr)
    assert not first.done()
    control.kill.set()
    assert (await first).result.verdict is Verdict.KILLED_BY_OPERATOR


_SURVIVOR = (
    "import os, signal, time\n"
    "for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\n"
    "for _ in range(5):\n"
    "    if os.fork() == 0:\n"
    "        os.setsid()\n"
    "        if os.fork() == 0: time.sleep(600)\n"
    "        os._exit(0)\n"
)
_FORKER = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"


@pytest.mark.parametrize("landlock", [5, None], ids=["killed by their user", "killed by domain"])
@pytest.mark.parametrize("program", [_SURVIVOR, _FORKER], ids=["daemons", "fork bomb"])
@pytest.mark.usefixtures("needs_root")
async def test_nothing_that_a_program_starts_outlives_it(
    monkeypatch: pytest.MonkeyPatch, program: str, landlock: int | None
) -> None:
    runtime = await open_runtime("confined")
    assert isinstance(runtime, ConfinedRuntime)
    assert runtime._provisions.current is not None
    if landlock is not None:  # as on an older kernel
        monkeypatch.setattr(runtime._provisions.current.capabilities.launcher, "landlock", landlock)
    mark = uuid4().hex
    job = prepared(program, environment={"APP_MARK": mark}, processes=32, wall_seconds=1)
    try:
        await run(runtime, job)
    finally:
        await runtime.aclose()
    assert _pids_of_programs(mark) == []


def _pids_of_programs(mark: str) -> list[str]:
    """Processes that began with ``mark`` in their environment; other tests have programs too."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{entry}/environ").read_bytes():
                found.append(entry)
    return found


async def test_shared_memory_and_folders_are_removed(programs: ConfinedRuntime) -> None:
    needs(programs, "own user")
    shared = Path(f"/dev/shm/qlp-left-{uuid4().hex}")
    program = (
        "import os\n"
        f"open('{shared}', 'w').write('x'); print(os.environ['HOME'])\n"
        "for _ in range(60): os.mkdir('d'); os.chdir('d')\n"
        "open('f', 'w'); os.chmod('.', 0)\n"
    )
    result = await run(programs, prepared(program))
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    assert not shared.exists()
    assert not Path(result.stdout.strip()).parent.exists()


async def test_a_killed_hosts_programs_end_and_the_next_host_tidies_up() -> None:
    script = (
        "import asyncio\n"
        "from sandbox_host.runtimes.confined.runtime import ConfinedRuntime\n"
        "from tests.support.sandbox.runtimes import prepared\n"
        "async def main():\n"
        "    runtime = ConfinedRuntime()\n"
        "    assert (await runtime.preflight()).ready\n"
        "    job = prepared('import time; print(1); time.sleep(60)', wall_seconds=60)\n"
        "    print(runtime._provisions.current.base, flush=True)\n"
        "    await asyncio.gather(*(runtime.run(job) for _ in range(3)))\n"
        "asyncio.run(main())\n"
    )
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert host.stdout is not None
    base = Path((await asyncio.wait_for(host.stdout.readline(), 60)).decode().strip())
    async with asyncio.timeout(60):
        while len(list(base.iterdir())) < 3:
            await asyncio.sleep(0.01)
    host.send_signal(signal.SIGKILL)
    await host.wait()
    async with asyncio.timeout(60):
        while _processes_in(base):
            await asyncio.sleep(0.02)
    await _reaped(base)


async def _reaped(base: Path) -> None:
    """What dead hosts left goes with a start, of this host or of another that is at it."""
    async with asyncio.timeout(60):
        while base.exists():
            await ConfinedRuntime().reap()


def _processes_in(base: Path) -> list[str]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{entry}/cwd").startswith(str(base)):
                found.append(entry)
        except OSError:
            continue
    return found


@pytest.mark.usefixtures("needs_root")
def test_processes_of_dead_hosts_users_are_killed_and_of_living_ones_are_not() -> None:
    # Taken in their order, from where a host's number puts it: none of this machine gets this far.
    away = (os.getpid() + CONFINED_USERS.count // 2) % CONFINED_USERS.count
    stray = CONFINED_USERS.first + away
    with contextlib.closing(CONFINED_USERS.take()) as user:
        held = user.uid
        mine = subprocess.Popen(["sleep", "60"], user=held, group=held, extra_groups=[])
        left = subprocess.Popen(["sleep", "60"], user=stray, group=stray, extra_groups=[])
        try:
            confined_users.kill_strays()
            assert left.wait(60) == -signal.SIGKILL
            assert mine.poll() is None
        finally:
            mine.kill()
            left.kill()
            mine.wait()


async def test_folders_of_dead_hosts_are_removed_and_of_living_ones_are_not() -> None:
    left = Path(tempfile.gettempdir()) / f"qlp-confined-{dead_host_tag()}-x"
    (left / "1" / "work").mkdir(parents=True)
    kept = confined_folder.make_base()
    await _reaped(left)
    assert kept.exists()
    kept.rmdir()


async def test_arguments_that_only_the_kernel_refuses_are_the_jobs_own_fault(
    programs: ConfinedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_ARGUMENT_BYTES", 1 << 20)
    monkeypatch.setattr(jobs, "MAX_ARGUMENTS_BYTES", 1 << 20)
    with pytest.raises(InvalidJob, match=r"^args: Argument list too long; shorten"):
        await programs.run(prepared("1", args=("x" * (200 << 10),)))


async def test_a_language_the_machine_lacks_is_the_jobs_fault_and_named(
    programs: ConfinedRuntime,
) -> None:
    assert programs._provisions.current is not None
    provisioned = programs._provisions.current
    only = {"python": provisioned.capabilities.interpreters["python"]}
    lacking = replace(
        provisioned, capabilities=replace(provisioned.capabilities, interpreters=only)
    )
    programs._provisions.provide(lacking)
    with pytest.raises(InvalidJob, match=r"'node' cannot run here, only python; install node"):
        await programs.run(prepared("1", language="node"))
    programs._provisions.provide(provisioned)


async def test_a_kernel_without_landlock_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(Launcher):
        def __init__(self, python: str) -> None:
            super().__init__(python)
            self.landlock = 0

    monkeypatch.setattr(confined, "Launcher", Old)
    readiness = await ConfinedRuntime().preflight()
    assert not readiness.ready
    assert f"Landlock ABI {6 if os.geteuid() else 1} is needed" in readiness.reason
    assert "lsm=landlock" in readiness.fix


async def test_a_launcher_that_was_killed_is_replaced_by_the_next_preflight() -> None:
    runtime = await open_runtime("confined")
    assert isinstance(runtime, ConfinedRuntime)
    assert runtime._provisions.current is not None
    runtime._provisions.current.capabilities.launcher._process.kill()
    runtime._provisions.current.capabilities.launcher._process.wait()
    assert not (await runtime.preflight()).ready
    assert (await runtime.preflight()).ready
    await runtime.aclose()


@pytest.mark.docker
@pytest.mark.timeout(300)
@pytest.mark.parametrize("user", ["0:0", "1000:1000"], ids=["root", "an ordinary user"])
async def test_it_runs_in_a_container_without_privileges(user: str) -> None:
    """Default capabilities and seccomp profile of the engine: where this runtime is for."""
    await ensure_image()
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker command")
    process = await asyncio.create_subprocess_exec(
        *(docker, "run", "--rm", "--network", "none", "--user", user, "--tmpfs", "/tmp:exec"),
        *("--volume", f"{ROOT}:/code:ro", "--volume", f"{sys.base_prefix}:/opt/python:ro"),
        *("--volume", f"{sysconfig.get_path('purelib')}:/site:ro"),
        *("--env", "PYTHONPATH=/code:/site", "--env", "PYTHONDONTWRITEBYTECODE=1"),
        *("--env", "LD_LIBRARY_PATH=/opt/python/lib", "--workdir", "/", "--label", "qlp.test"),
        "qlp-sandbox-python:1",
        *("/opt/python/bin/python3", "-m", "tests.support.sandbox.confined_programs"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 200)
    assert process.returncode == 0, errors.decode()
    found = json.loads(output)
    assert found.pop("ready"), found["reason"]
    isolation = found.pop("isolation")
    assert isolation.startswith("weak: no namespaces; Landlock ABI")
    assert isolation.endswith("a user id per job" if user == "0:0" else "the host's own user id")
    assert found["hello"][:2] == ["succeeded", "hello\n"]
    assert found["artifact"][2] == ["a"]
    names = ("sleeper", "hog", "disk", "unlinked", "survivor", "large parent")
    verdicts = {name: found[name][0] for name in names}
    assert verdicts == {
        "sleeper": "timed_out",
        "hog": "out_of_memory",
        "disk": "disk_limit",
        "unlinked": "disk_limit",
        "survivor": "succeeded",
        "large parent": "succeeded",
    }
    # With the host's own user id the kernel counts others' processes too.
    assert found["bomb"][0] in ({"process_limit"} if user == "0:0" else {"process_limit", "exited"})
    hostile = ("host's environment", "host's process", "host's files", "host's modes")
    for name in (*hostile, "outside", "inotify", "network"):
        assert found[name][:2] == ["succeeded", "contained\n"], (name, found[name])
    assert found["processes"] == ["1"]
    assert found["files"] == ["of-the-host"]


async def test_a_program_starts_in_about_the_time_of_a_plain_process(
    programs: ConfinedRuntime,
) -> None:
    """The fastest of some, for loaded machines; ``make bench`` has the figures."""
    times: list[float] = []
    while len(times) < 5 or (len(times) < 50 and min(times) >= 0.3):
        began = time.perf_counter()
        assert (await run(programs, prepared(""))).verdict is Verdict.SUCCEEDED
        times.append(time.perf_counter() - began)
    assert min(times) < 0.3


_HOLD = "import os, time\nheld, block = [], b'x' * (1 << 20)\n"
_WITHOUT_NAMES = {
    "deleted": "f = open('x', 'wb'); os.unlink('x'); held.append(f)",
    "without a name from the beginning": (
        "f = os.fdopen(os.open('.', os.O_TMPFILE | os.O_RDWR), 'wb'); held.append(f)"
    ),
    "in shared memory": "f = open('/dev/shm/x', 'wb'); os.unlink(f.name); held.append(f)",
    "only mapped": (
        "import ctypes; c = ctypes.CDLL(None); c.mmap.restype = ctypes.c_void_p\n"
        "    f = open('x', 'wb+'); f.write(b'x'); f.flush()\n"
        "    c.mmap(None, 4096, 1, 2, f.fileno(), 0); os.unlink('x')"
    ),
    "held by a child": (
        "f = open('x', 'wb'); os.unlink('x')\n    if os.fork() == 0: time.sleep(60)"
    ),
    "held by a thread that outlives the first": (
        "import ctypes, threading\n"
        "    def hold():\n"
        "        global f\n"
        "        while True:\n"
        "            f = open('x', 'wb'); os.unlink('x'); held.append(f); f.write(block * 8)\n"
        "    threading.Thread(target=hold).start(); ctypes.CDLL(None).pthread_exit(None)"
    ),
}


@pytest.mark.parametrize("how", _WITHOUT_NAMES)
async def test_files_without_names_count(programs: ConfinedRuntime, how: str) -> None:
    if how == "in shared memory" and os.geteuid() != 0:
        pytest.skip("without a user of its own a program has no shared memory")
    program = (
        f"{_HOLD}for _ in range(200):\n"
        f"    {_WITHOUT_NAMES[how]}\n"
        "    for _ in range(8): f.write(block)\n"
        "    f.flush()\n"
        "time.sleep(60)\n"
    )
    result = await run(programs, prepared(program, disk_bytes=32 << 20, memory_bytes=1 << 30))
    assert (result.verdict, result.signal) == (Verdict.DISK_LIMIT, 9), result.stderr
    assert result.behaviour.limits_hit == ("disk_bytes",)


_C = """\
import ctypes, os, time
libc = ctypes.CDLL(None)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
def mapped(file, size=4096):
    at = libc.mmap(None, size, 3, 1, file, 0)
    os.close(file)
    return at
def new(name):
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
"""
_HELD = {
    "mapped by a page, and handed on": """\
for _ in range(120):
    if os.fork() == 0: time.sleep(30)
if os.fork(): time.sleep(5); os._exit(0)
block, until, count = b"x" * (1 << 20), time.monotonic() + 5, 0
while time.monotonic() < until:
    if count < 100:
        file, count = new("gone"), count + 1; os.unlink("gone"); os.write(file, block); mapped(file)
    if os.fork(): os._exit(0)
""",
    "mapped as a whole for a moment": """\
files = [new(f"{n}") for n in range(20)]
for n, file in enumerate(files): os.unlink(f"{n}"); os.truncate(file, 4 << 20)
time.sleep(0.5)
pages = [mapped(file) for file in files]
time.sleep(0.2)
for page in pages:
    whole = libc.mremap(ctypes.c_void_p(page), 4096, 4 << 20, 1)
    ctypes.memset(ctypes.c_void_p(whole), 1, 4 << 20)
    libc.mremap(ctypes.c_void_p(whole), 4 << 20, 4096, 0)
    time.sleep(0.005)
time.sleep(5)
""",
    "written under a name, then mapped by a page": """\
pages = []
for _ in range(5):
    file = new("gone"); os.write(file, bytes(3 << 20)); os.close(file); time.sleep(0.4)
    pages.append(mapped(os.open("gone", os.O_RDWR))); os.unlink("gone")
time.sleep(5)
""",
    "folders that are worked in, and those around them": """\
new("file")
for n in range(6):
    os.mkdir(f"{n}"); os.mkdir(f"{n}/in")
    for link in range(6000): os.link("file", f"{n}/{link:0250}")
    for link in range(6000): os.unlink(f"{n}/{link:0250}")
    if os.fork() == 0:
        os.chdir(f"{n}/in"); os.rmdir(f"../in"); os.rmdir(f"../../{n}"); time.sleep(30)
    while os.path.exists(f"{n}"): time.sleep(0.01)
time.sleep(5)
""",
    "folders that a deleted file was in": """\
new("file")
for n in range(6):
    os.mkdir(f"{n}")
    for link in range(6000): os.link("file", f"{n}/{link:0250}")
    file = new(f"{n}/held"); time.sleep(0.3)
    for name in os.listdir(f"{n}"): os.unlink(f"{n}/{name}")
    os.rmdir(f"{n}")
time.sleep(5)
""",
}


@pytest.mark.parametrize("how", _HELD)
async def test_what_is_held_without_being_open_counts(programs: ConfinedRuntime, how: str) -> None:
    job = prepared(_C + _HELD[how], disk_bytes=8 << 20, processes=160, wall_seconds=20)
    result = await run(programs, job)
    assert (result.verdict, result.signal) == (Verdict.DISK_LIMIT, 9), result.stderr


@pytest.mark.parametrize("name", ["file", "file (deleted)"])
async def test_what_is_mapped_and_has_a_name_counts_once(
    programs: ConfinedRuntime, name: str
) -> None:
    program = (
        f"{_C}file = new({name!r}); os.write(file, bytes(20 << 20)); mapped(file, 20 << 20)\n"
        f"if {name!r} == 'file': os.link('file', 'final'); os.unlink('file')\n"
        "time.sleep(0.5)\n"
    )
    result = await run(programs, prepared(program, disk_bytes=32 << 20))
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    assert result.usage is not None
    assert (result.usage.disk_bytes or 0) < 24 << 20


_UNREADABLE = """\
import os, shutil, subprocess, sys, time
shutil.copy("/bin/sh", "sh"); os.chmod("sh", 0o111)
for _ in range(20): subprocess.run(["./sh", "-c", ":"]); time.sleep(0.03)
print("short ones may be", flush=True)
handed_on = "[ $1 -gt 500 ] || { sleep 0.01; ./sh -c \\"$0\\" \\"$0\\" $(($1 + 1)) & }"
subprocess.run(["./sh", "-c", handed_on, handed_on, "0"]); time.sleep(4)
"""


@pytest.mark.usefixtures("needs_root")
async def test_a_program_of_unreadable_processes_is_over_the_limit() -> None:
    """As in an ordinary container: there the host has no CAP_SYS_PTRACE."""
    script = (
        "import asyncio, sys\n"
        "from tests.support.sandbox.runtimes import open_runtime, prepared, run\n"
        "async def main():\n"
        "    runtime = await open_runtime('confined')\n"
        "    result = await run(runtime, prepared(sys.argv[1], wall_seconds=20))\n"
        "    print(result.verdict, result.stdout, result.stderr)\n"
        "    await runtime.aclose()\n"
        "asyncio.run(main())\n"
    )
    without = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    host = await asyncio.create_subprocess_exec(
        *(*without, sys.executable, "-c", script, _UNREADABLE), cwd=ROOT, stdout=-1
    )
    output, _ = await host.communicate()
    assert output.decode().strip() == "disk_limit short ones may be"


async def test_shared_memory_without_names_is_memory(programs: ConfinedRuntime) -> None:
    if os.geteuid() != 0:
        pytest.skip("without a user of its own a program has no shared memory")
    program = (
        f"{_HOLD}f = open('/dev/shm/x', 'wb'); os.unlink(f.name)\n"
        "for _ in range(480): f.write(block)\n"
        "time.sleep(60)\n"
    )
    job = prepared(program, memory_bytes=128 << 20, disk_bytes=1 << 30)
    result = await run(programs, job)
    assert (result.verdict, result.signal) == (Verdict.OUT_OF_MEMORY, 9), result.stderr
    assert result.behaviour.limits_hit == ("memory_bytes",)


async def test_a_large_program_may_take_its_time_to_end(programs: ConfinedRuntime) -> None:
    job = prepared("import os; l = bytearray(1200 << 20); os._exit(0)", memory_bytes=1400 << 20)
    result = await run(programs, job)
    assert result.verdict is Verdict.SUCCEEDED, (result.behaviour.limits_hit, result.stderr)


_MEMORY_ELSEWHERE = {
    "of threads that outlive the first": (
        "import ctypes, threading\n"
        "def eat():\n"
        "    while len(held) < 80: held.append(bytearray(block) * 4)\n"
        "    time.sleep(60)\n"
        "threading.Thread(target=eat).start(); ctypes.CDLL(None).pthread_exit(None)\n"
    ),
    "in flight between sockets": (
        "import socket\n"
        "for _ in range(450):\n"
        "    pair = socket.socketpair(); pair[0].setblocking(False); held.append(pair)\n"
        "    try:\n"
        "        while True: pair[0].send(block)\n"
        "    except BlockingIOError: pass\n"
        "time.sleep(60)\n"
    ),
    "page tables": (
        "import ctypes; c = ctypes.CDLL(None); c.mmap.restype = ctypes.c_void_p\n"
        "f = open('big', 'wb+'); f.truncate(30 << 20)\n"
        "while True:\n"
        "    a = c.mmap(None, 30 << 20, 1, 1, f.fileno(), 0)\n"
        "    for o in range(0, 30 << 20, 2 << 20): ctypes.c_char.from_address(a + o).value\n"
    ),
}


@pytest.mark.parametrize("where", _MEMORY_ELSEWHERE)
async def test_memory_counts_wherever_it_is(programs: ConfinedRuntime, where: str) -> None:
    job = prepared(_HOLD + _MEMORY_ELSEWHERE[where], memory_bytes=96 << 20)
    result = await run(programs, job)
    assert (result.verdict, result.signal) == (Verdict.OUT_OF_MEMORY, 9), result.stderr


@pytest.mark.parametrize(
    "attempt",
    [
        "os.posix_fallocate",  # the C library writes instead, which is seen as it goes
        "libc.fallocate(f.fileno(), 1, ctypes.c_long(0), ctypes.c_long(1 << 30))",
        "libc.fsetxattr(f.fileno(), b'user.x', block, 60000, 0)",
        "libc.splice(f.fileno(), None, pipe[1], None, 4096, 0)",
        "libc.tee(pipe[0], pipe[1], 4096, 0)",
        "libc.sendfile(pipe[1], f.fileno(), None, 4096)",
        "libc.prctl(4, 0, 0, 0, 0)",
        "libc.fcntl(pipe[1], 1031, 1 << 20)",
        "libc.syscall(436, 3, 4, 2)",
        "libc.sendmsg(pair[0].fileno(), bytes(56), 0)",
    ],
)
async def test_what_would_keep_something_out_of_sight_is_refused(
    programs: ConfinedRuntime, attempt: str
) -> None:
    program = (
        "import ctypes, os, socket\n"
        "libc, pipe, pair = ctypes.CDLL(None), os.pipe(), socket.socketpair()\n"
        "block = bytes(60000); f = open('x', 'wb+'); f.write(block); f.flush(); f.seek(0)\n"
    )
    if attempt == "os.posix_fallocate":
        program += "os.posix_fallocate(f.fileno(), 0, 100_000); print(os.stat('x').st_size)\n"
        assert (await run(programs, prepared(program))).stdout == "100000\n"
        return
    result = await run(programs, prepared(f"{program}print({attempt})\n"))
    assert result.stdout == "-1\n", result.stderr


async def test_ordinary_use_of_files_and_pairs_is_not_refused(programs: ConfinedRuntime) -> None:
    needs(programs, "own user")
    program = (
        "import asyncio, multiprocessing, os, shutil, sqlite3, subprocess, tempfile\n"
        "from multiprocessing import shared_memory\n"
        "open('a', 'wb').write(b'x' * 300_000); shutil.copy2('a', 'b')\n"
        "shutil.copytree('.', '../tmp/c')\n"
        "with tempfile.TemporaryFile() as f: f.write(b'x' * 100_000)\n"
        "sqlite3.connect('d').executescript('create table t (n); insert into t values (1)')\n"
        "async def cat():\n"
        "    p = await asyncio.create_subprocess_exec('cat', 'a', stdout=-1)\n"
        "    return len((await p.communicate())[0])\n"
        "if __name__ == '__main__':\n"
        "    print(asyncio.run(cat()), os.stat('b').st_size)\n"
        "    subprocess.run('cat a | wc -c; cp a e; tar cf - a | wc -c', shell=True, check=True)\n"
        "    with multiprocessing.Pool(2) as pool: print(sum(pool.map(abs, range(-5, 0))))\n"
        "    m = shared_memory.SharedMemory(create=True, size=100_000); m.close(); m.unlink()\n"
    )
    result = await run(programs, prepared(program))
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    assert result.stdout.split() == ["300000", "300000", "300000", "307200", "15"]


@pytest.mark.usefixtures("needs_root")
async def test_programs_of_a_host_in_another_network_namespace_are_left_alone(
    programs: ConfinedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, nothing shows that their user ids are reserved; but they have their supervisors."""
    began = asyncio.Event()
    control = RunControl(on_output=lambda *_: began.set())
    running = asyncio.create_task(
        programs.run(prepared("import time; print('x', flush=True); time.sleep(2)"), control)
    )
    await asyncio.wait_for(began.wait(), 60)
    claimed: list[int] = []
    monkeypatch.setattr(type(CONFINED_USERS), "claim", lambda _, uid: claimed.append(uid))
    assert confined_users.kill_strays() == 0
    assert claimed == []
    assert (await running).result.verdict is Verdict.SUCCEEDED


async def test_preparation_that_fails_half_way_keeps_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> Path:
        raise OSError("no space")

    monkeypatch.setattr(confined, "make_base", refuse)
    runtime = ConfinedRuntime()
    counts = []
    for _ in range(4):
        assert not (await runtime.preflight()).ready
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1:] == counts[:1] * 3
