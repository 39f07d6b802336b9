"""What only the docker runtime has: an engine, images, leftovers of dead hosts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from domain.contracts.job import Verdict
from sandbox_host.linux.processes import host_tag
from sandbox_host.runtimes.base import RunControl, RuntimeFailure
from sandbox_host.runtimes.containers.workspace import WORKSPACES
from sandbox_host.runtimes.docker.engine import DockerEngine
from sandbox_host.runtimes.docker.runtime import DockerRuntime
from tests.support import ROOT
from tests.support.sandbox.runtimes import ensure_image, groups_with, prepared, run

pytestmark = pytest.mark.docker

#: A host with boxes that wait, which starts a long program and tells when it runs.
_HOST = """\
import asyncio, sys
from tests.support.sandbox.runtimes import prepared
from sandbox_host.runtimes.base import RunControl
from sandbox_host.runtimes.docker.runtime import DockerRuntime
async def main():
    runtime = DockerRuntime(pool_memory_bytes=512 << 20)
    assert (await runtime.preflight()).ready
    control = RunControl(on_output=lambda name, data: print("running", flush=True))
    job = prepared("print('x'); import time; time.sleep(100)", wall_seconds=100)
    await runtime.run(job, control)
asyncio.run(main())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def docker() -> AsyncIterator[DockerRuntime]:
    """A runtime without a pool: every box is made for its job."""
    await ensure_image()
    runtime = DockerRuntime()
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    yield runtime
    await runtime.aclose()


async def test_a_missing_image_is_named_with_the_command_that_builds_it() -> None:
    await ensure_image()
    runtime = DockerRuntime("qlp-no-such-{language}:1")
    readiness = await runtime.preflight()
    await runtime.aclose()
    assert not readiness.ready
    assert readiness.reason == "the engine has no working image qlp-no-such-python:1"
    assert readiness.fix == "build it: python -m sandbox_host.images.build --language python"


async def test_an_engine_without_the_runtime_wanted_is_not_ready() -> None:
    await ensure_image()
    runtime = DockerRuntime(engine_runtime="no-such-runtime")
    readiness = await runtime.preflight()
    await runtime.aclose()
    assert not readiness.ready
    assert readiness.reason == "the engine has no runtime no-such-runtime"


async def test_health_says_what_is_on_and_what_is_not(docker: DockerRuntime) -> None:
    readiness = await docker.preflight()
    assert {"python", "shell"} <= set(readiness.languages)
    assert readiness.details["seccomp"] == "on"
    # The engine says whether it has AppArmor; the kernel says so, too.
    confined = Path("/sys/module/apparmor/parameters/enabled")
    on = confined.exists() and confined.read_text().startswith("Y")
    assert readiness.details["apparmor"].startswith("on" if on else "off")
    assert "seccomp" in readiness.isolation


async def test_no_descriptor_or_memory_of_pid_1_is_open_to_the_program(
    docker: DockerRuntime,
) -> None:
    program = (
        "import os\n"
        "for what in ('fd/0', 'fd/1', 'mem', 'environ', 'cwd'):\n"
        "    for mode in (os.O_RDONLY, os.O_WRONLY):\n"
        "        try: os.open(f'/proc/1/{what}', mode); print(what, 'is open')\n"
        "        except OSError as error: assert error.errno in (1, 13), error\n"
        "try: print(os.listdir('/proc/1/fd'))\n"
        "except PermissionError: print('closed')\n"
        "for number in (2, 3, 6, 9, 11, 15, 19):\n"
        "    try: os.kill(1, number); print('signalled')\n"
        "    except PermissionError: pass\n"
        "print('alive')\n"
    )
    result = await run(docker, prepared(program))
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "closed\nalive\n"), result.stderr


async def test_the_agents_pipes_cannot_be_found(docker: DockerRuntime) -> None:
    program = (
        "import os\n"
        "print(sorted(os.listdir('/in')), sorted(os.listdir('/out')), sorted(os.listdir('/box')))\n"
        "print(sorted(os.listdir('/proc/self/fd')))\n"
    )
    result = await run(docker, prepared(program))
    assert result.stdout.splitlines()[1] == "['0', '1', '2', '3']"  # 3 is the folder being listed
    assert result.stdout.splitlines()[0] == "['main.py'] [] ['tmp', 'work']"


async def test_the_job_as_it_came_can_be_read_and_not_changed(docker: DockerRuntime) -> None:
    program = (
        "open('data.txt', 'a').write('!')\n"
        "print(open('data.txt').read(), open('/in/data.txt').read())\n"
        "open('/in/data.txt', 'w')\n"
    )
    result = await run(docker, prepared(program, files={"data.txt": "x"}))
    assert result.stdout == "x! x\n"
    assert "Read-only file system" in result.stderr


@pytest.mark.parametrize(
    "call",
    [
        "ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0)",
        "ctypes.CDLL(None, use_errno=True).syscall(425, 8, 0)",  # io_uring_setup
        "ctypes.CDLL(None, use_errno=True).syscall(310, 1, 0, 0, 0, 0, 0)",  # process_vm_readv
        "ctypes.CDLL(None, use_errno=True).syscall(438, 0, 0, 0)",  # pidfd_getfd
        "ctypes.CDLL(None, use_errno=True).unshare(0x10000000)",  # CLONE_NEWUSER
        "socket.socket(40, socket.SOCK_STREAM)",  # AF_VSOCK
        "socket.socketpair(30)",  # AF_TIPC
        "open('/dev/mqueue/x', 'w')",
        "os.mkdir('/x')",
    ],
)
async def test_ways_out_of_the_box_are_refused(docker: DockerRuntime, call: str) -> None:
    program = (
        "import ctypes, os, socket\n"
        f"try: returned = {call}\n"
        "except OSError as error: print('refused', error)\n"
        "else: print('refused' if returned == -1 else returned)\n"
    )
    result = await run(docker, prepared(program))
    assert result.stdout.startswith("refused"), (result.stdout, result.stderr)


@pytest.mark.usefixtures("needs_root")
async def test_a_dead_agent_is_the_programs_doing_and_what_was_recorded_is_kept(
    docker: DockerRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    """However a program might do it; here a signal comes from nowhere that the engine knows of."""
    begun = asyncio.Event()
    # Python writes the end of the line by itself, since its output is not buffered.
    control = RunControl(on_output=lambda _, data: begun.set() if b"\n" in data else None)
    program = "open('/out/a', 'w').write('x'); print('up', flush=True)\nimport time; time.sleep(60)"
    running = asyncio.create_task(docker.run(prepared(program), control))
    await asyncio.wait_for(begun.wait(), 60)
    (agent,) = _first_processes()
    os.kill(agent, signal.SIGKILL)
    result = (await running).result
    assert (result.verdict, result.signal, result.stdout) == (Verdict.SIGNALLED, 9, "up\n")
    assert [artifact.name for artifact in result.artifacts] == ["a"]
    assert result.usage is not None
    assert result.usage.peak_memory_bytes
    assert "a program ended its box" in caplog.text


def _first_processes() -> list[int]:
    """The agents of this process's boxes, as this machine numbers them."""
    found = []
    for group in groups_with(f"qlp-sandbox-{host_tag()}"):
        for path in Path(group).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found += path.read_text().split()[:1]
    return sorted({int(pid) for pid in found})


async def test_a_killed_hosts_program_ends_and_the_next_start_removes_what_it_left(
    docker_engine: DockerEngine,
) -> None:
    await ensure_image()
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOST), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert host.stdout is not None
    assert await asyncio.wait_for(host.stdout.readline(), 60) == b"running\n"
    mine = f"-{host.pid}-"
    boxes = [box for box, tag in (await docker_engine.boxes()).items() if mine in tag]
    assert boxes
    host.kill()
    await host.wait()
    # Their stdin ends with the host, and PID 1 with its stdin.
    for box in boxes:
        try:
            await docker_engine.ended(box)
        except RuntimeFailure as gone:  # another host of this machine has reaped it
            if "No such container" not in str(gone):
                raise
    runtime = DockerRuntime()
    assert (await runtime.preflight()).ready
    await runtime.reap()  # or another host of this machine, which starts at the same time
    assert not set(boxes) & set(await docker_engine.boxes())
    await runtime.aclose()
    # The engine makes groups in every hierarchy, and leaves them.
    assert not groups_with(f"qlp-sandbox-.*{mine}")
    assert not list(WORKSPACES.glob(f"*{mine}*"))
    assert mine not in Path("/proc/self/mountinfo").read_text()
