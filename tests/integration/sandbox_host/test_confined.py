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

from domain.sandbox.contract import Verdict
from sandbox_host import jobs
from sandbox_host.jobs import InvalidJob
from sandbox_host.runtimes import confined, confined_folder, confined_users
from sandbox_host.runtimes.base import RunControl
from sandbox_host.runtimes.box_users import CONFINED_USERS
from sandbox_host.runtimes.confined import ConfinedRuntime
from sandbox_host.runtimes.confined_process import Launcher
from tests.fixtures.sandbox import ROOT, ensure_image, open_runtime, prepared, run
from tests.integration.sandbox_host.test_bubblewrap import dead_host_tag


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
    assert runtime._equipment is not None
    if landlock is not None:  # as on an older kernel
        monkeypatch.setattr(runtime._equipment.means.launcher, "landlock", landlock)
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
    program = (
        "import os\n"
        "open('/dev/shm/qlp-left', 'w').write('x'); print(os.environ['HOME'])\n"
        "for _ in range(60): os.mkdir('d'); os.chdir('d')\n"
        "open('f', 'w'); os.chmod('.', 0)\n"
    )
    result = await run(programs, prepared(program))
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    assert not Path("/dev/shm/qlp-left").exists()
    assert not Path(result.stdout.strip()).parent.exists()


async def test_a_killed_hosts_programs_end_and_the_next_host_tidies_up() -> None:
    script = (
        "import asyncio\n"
        "from sandbox_host.runtimes.confined import ConfinedRuntime\n"
        "from tests.fixtures.sandbox import prepared\n"
        "async def main():\n"
        "    runtime = ConfinedRuntime()\n"
        "    assert (await runtime.preflight()).ready\n"
        "    job = prepared('import time; print(1); time.sleep(60)', wall_seconds=60)\n"
        "    print(runtime._equipment.base, flush=True)\n"
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
    programs: ConfinedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert programs._equipment is not None
    equipment = programs._equipment
    only = {"python": equipment.means.interpreters["python"]}
    lacking = replace(equipment, means=replace(equipment.means, interpreters=only))
    monkeypatch.setattr(programs, "_equipment", lacking)
    with pytest.raises(InvalidJob, match=r"'node' cannot run here, only python; install node"):
        await programs.run(prepared("1", language="node"))


async def test_a_kernel_without_landlock_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(Launcher):
        def __init__(self, python: str) -> None:
            super().__init__(python)
            self.landlock = 0

    monkeypatch.setattr(confined, "Launcher", Old)
    readiness = await ConfinedRuntime().preflight()
    assert not readiness.ready
    assert "Landlock ABI 1 is needed" in readiness.reason
    assert "lsm=landlock" in readiness.fix


async def test_a_launcher_that_was_killed_is_replaced_by_the_next_preflight() -> None:
    runtime = await open_runtime("confined")
    assert isinstance(runtime, ConfinedRuntime)
    assert runtime._equipment is not None
    runtime._equipment.means.launcher._process.kill()
    runtime._equipment.means.launcher._process.wait()
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
        *("/opt/python/bin/python3", "-m", "tests.integration.sandbox_host.confined_programs"),
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
    verdicts = {name: found[name][0] for name in ("sleeper", "hog", "disk", "survivor")}
    assert verdicts == {
        "sleeper": "timed_out",
        "hog": "out_of_memory",
        "disk": "disk_limit",
        "survivor": "succeeded",
    }
    # With the host's own user id the kernel counts others' processes too.
    assert found["bomb"][0] in ({"process_limit"} if user == "0:0" else {"process_limit", "exited"})
    hostile = ("host's environment", "host's process", "host's files", "host's modes")
    for name in (*hostile, "outside", "network"):
        assert found[name][:2] == ["succeeded", "contained\n"], (name, found[name])
    # The instances of a user of its own are the program's; the host's are not.
    inotify = "escaped\n" if user == "0:0" else "contained\n"
    assert found["inotify"][:2] == ["succeeded", inotify], found["inotify"]
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
