"""Hostile programs: each is contained, judged rightly, and leaves the next job unharmed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from domain.sandbox.contract import SandboxResult, Verdict
from sandbox_host.runtimes.base import Runtime
from tests.fixtures.sandbox import prepared

#: Tries an action; prints "contained" where the system refuses it, else "escaped".
_ATTEMPT = """\
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def syscall(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
try:
{action}
except (OSError, MemoryError) as error:
    print("contained", type(error).__name__)
else:
    print("escaped")
"""


async def run(runtime: Runtime, program: str, **options: object) -> SandboxResult:
    """Run ``program``, then prove that an ordinary job still works."""
    options.setdefault("wall_seconds", 3)
    result = await runtime.run(prepared(program, **options))
    following = await runtime.run(prepared("print('unharmed')"))
    assert (following.verdict, following.stdout) == (Verdict.SUCCEEDED, "unharmed\n")
    return result


async def attempt(runtime: Runtime, *lines: str) -> None:
    action = "\n".join(f"    {line}" for line in lines)
    result = await run(runtime, _ATTEMPT.format(action=action))
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    assert result.stdout.startswith("contained"), result.stdout


async def test_a_fork_bomb_meets_the_process_limit(runtime: Runtime) -> None:
    program = (
        "import os, time\n"
        "n = 0\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0: time.sleep(60)\n"
        "        n += 1\n"
        "except OSError: print(n)\n"
    )
    result = await run(runtime, program, processes=20)
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "19\n")


async def test_a_relentless_fork_bomb_ends_at_the_deadline(runtime: Runtime) -> None:
    program = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    result = await run(runtime, program, wall_seconds=1, processes=30)
    assert result.verdict is Verdict.TIMED_OUT


async def test_a_memory_hog_is_killed_and_judged_out_of_memory(runtime: Runtime) -> None:
    program = "kept = []\nwhile True: kept.append(bytearray(b'x') * (4 << 20))\n"
    result = await run(runtime, program, memory_bytes=64 << 20)
    assert result.verdict is Verdict.OUT_OF_MEMORY


async def test_memory_is_limited_for_all_processes_together(runtime: Runtime) -> None:
    program = (
        "import os, time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        block = bytearray(b'x') * (24 << 20)\n"
        "        time.sleep(60)\n"
        "statuses = [os.wait()[1] for _ in range(8)]\n"
        "os._exit(1)\n"
    )
    result = await run(runtime, program, memory_bytes=96 << 20, wall_seconds=2)
    # A kernel that kills one child at a time may leave the parent waiting for the survivors.
    assert result.verdict in (Verdict.OUT_OF_MEMORY, Verdict.TIMED_OUT)
    assert result.usage is not None
    if (await runtime.preflight()).details["limits"].startswith("cgroup"):
        assert (result.usage.peak_memory_bytes or 0) <= 97 << 20


async def test_an_endless_printer_is_stopped_and_its_output_stays_small(runtime: Runtime) -> None:
    program = "import sys\nwhile True: sys.stdout.write('x' * 65536)\n"
    result = await run(runtime, program, wall_seconds=20)
    assert result.verdict is Verdict.OUTPUT_LIMIT
    assert result.stdout_truncated
    assert len(result.stdout) <= 64 * 1024
    assert result.stdout_bytes > 16 << 20


@pytest.mark.parametrize("place", [".", "/tmp", "/dev/shm"])
async def test_a_disk_filler_meets_the_end_of_its_own_disk(runtime: Runtime, place: str) -> None:
    program = (
        "written = 0\n"
        "try:\n"
        f"    with open('{place}/filler', 'wb', buffering=0) as file:\n"
        "        while True: written += file.write(b'x' * 65536)\n"
        "except OSError: print(written)\n"
    )
    result = await run(runtime, program, disk_bytes=8 << 20)
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    assert 4 << 20 < int(result.stdout) <= 16 << 20


async def test_an_inode_filler_is_contained(runtime: Runtime) -> None:
    program = "n = 0\nwhile True:\n    open(str(n), 'w').close()\n    n += 1\n"
    result = await run(runtime, program, memory_bytes=32 << 20, wall_seconds=10)
    # Docker's tmpfs counts inodes (ENOSPC); elsewhere their kernel memory is charged.
    expected = Verdict.EXITED if runtime.name == "docker" else Verdict.OUT_OF_MEMORY
    assert result.verdict is expected


async def test_there_is_no_network_beyond_the_box(runtime: Runtime) -> None:
    await attempt(runtime, "socket.create_connection(('1.1.1.1', 53), 1)")
    program = "print([line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line])"
    assert (await run(runtime, program)).stdout == "['lo']\n"


@pytest.mark.parametrize("family", [16, 17, 38, 40], ids=["netlink", "packet", "alg", "vsock"])
async def test_only_unix_and_ip_sockets_exist(runtime: Runtime, family: int) -> None:
    await attempt(runtime, f"socket.socket({family}, socket.SOCK_RAW, 0)")


async def test_host_secrets_and_environment_are_out_of_reach(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLP_TEST_SECRET", "hunter2-of-the-host")
    program = (
        "import glob, os\n"
        "found = [dict(os.environ)]\n"
        "for path in ['/etc/shadow', *glob.glob('/proc/[0-9]*/environ')]:\n"
        "    try: found.append(open(path).read())\n"
        "    except OSError as error: found.append(type(error).__name__)\n"
        "print(found, os.path.exists('/root/.bashrc'), os.path.exists('/var/run/docker.sock'))\n"
    )
    result = await run(runtime, program)
    assert "hunter2" not in result.stdout
    assert "root:" not in result.stdout
    assert "False False" in result.stdout


async def test_kernel_settings_cannot_be_written(runtime: Runtime) -> None:
    before = os.uname().nodename
    await attempt(runtime, "open('/proc/sys/kernel/hostname', 'w').write('owned')")
    await attempt(runtime, "open('/proc/sysrq-trigger', 'w').write('c')")
    assert os.uname().nodename == before


async def test_the_root_file_system_cannot_be_written(runtime: Runtime) -> None:
    for path in ("/usr/bin/evil", "/etc/passwd", "/evil", "/dev/evil"):
        await attempt(runtime, f"open('{path}', 'w')")


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("ptrace", "syscall(101, 16, 1, 0, 0)"),
        ("process_vm_readv", "syscall(310, 1, 0, 0, 0, 0, 0)"),
        ("io_uring_setup", "syscall(425, 1, ctypes.create_string_buffer(120))"),
        ("unshare user namespace", "syscall(272, 0x10000000)"),
        ("clone into a user namespace", "syscall(56, 0x10000011, 0, 0, 0, 0)"),
        ("mount", "syscall(165, b'none', b'/box', b'tmpfs', 0, 0)"),
        ("bpf", "syscall(321, 0, 0, 0)"),
        ("keyctl", "syscall(250, 0, 0, 0, 0, 0)"),
        ("userfaultfd", "syscall(323, 0)"),
        ("perf_event_open", "syscall(298, 0, 0, 0, 0, 0)"),
        ("mq_open", "syscall(240, b'queue', 0o102, 0o600, 0)"),
    ],
    ids=lambda value: str(value).split("(")[0],
)
async def test_dangerous_system_calls_are_refused(runtime: Runtime, name: str, call: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the call numbers are those of x86_64")
    await attempt(runtime, call)


async def test_the_x32_interface_is_no_way_round_the_filter(runtime: Runtime) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("x86_64 only")
    program = "import ctypes; print(ctypes.CDLL(None).syscall(0x40000000 | 39))"
    result = await run(runtime, program)
    # Killed by the filter, or told that there is no such call.
    assert result.verdict is Verdict.SIGNALLED or result.stdout == "-1\n"


async def test_a_daemon_does_not_outlive_the_program(runtime: Runtime) -> None:
    marker = f"qlp-daemon-{time.monotonic_ns()}"
    program = (
        "import os, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    if os.fork() == 0: os.execvp('sh', ['{marker}', '-c', 'sleep 60; :'])\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('done')\n"
    )
    result = await run(runtime, program)
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "done\n")
    assert not processes_named(marker)


def processes_named(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(str(path))
        except OSError:
            continue
    return found


async def test_signalling_the_first_process_of_the_box_ends_nothing(runtime: Runtime) -> None:
    program = (
        "import os, signal, time\n"
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP):\n"
        "    try: os.kill(1, number)\n"
        "    except PermissionError: pass\n"
        "time.sleep(0.1)\n"
        "print('alive')\n"
    )
    result = await run(runtime, program)
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "alive\n")


async def test_a_result_printed_by_the_program_is_only_text(runtime: Runtime) -> None:
    fake = '{"verdict": "succeeded", "exit_code": 0, "child-pid": 1}'
    program = (
        "import os, sys\n"
        f"fake = {fake!r}\n"
        "print(fake); print(fake, file=sys.stderr)\n"
        "for fd in range(3, 64):\n"
        "    for path in (f'/proc/1/fd/{fd}', f'/proc/self/fd/{fd}'):\n"
        "        try: os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), fake.encode())\n"
        "        except OSError: pass\n"
        "sys.exit(7)\n"
    )
    result = await run(runtime, program)
    assert (result.verdict, result.exit_code) == (Verdict.EXITED, 7)
    assert result.stdout.startswith(fake)


async def test_links_lead_nowhere_outside_the_box(runtime: Runtime) -> None:
    program = (
        "import os\n"
        "os.symlink('/etc/shadow', 'link'); os.symlink('/proc/1/root/root', 'up')\n"
        "for action in (lambda: open('link').read(), lambda: os.listdir('up'),\n"
        "               lambda: os.link('/usr/bin/env', 'hard')):\n"
        "    try: action()\n"
        "    except OSError as error: print('contained')\n"
        "    else: print('escaped')\n"
    )
    result = await run(runtime, program)
    assert result.stdout == "contained\n" * 3


async def test_a_huge_argument_list_fails_inside_the_box(runtime: Runtime) -> None:
    program = (
        "import os\n"
        "try: os.execv('/bin/true', ['x' * 200_000] * 100)\n"
        "except OSError as error: print(error.errno)\n"
    )
    result = await run(runtime, program)
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "7\n")


async def test_set_id_programs_give_no_privileges(runtime: Runtime) -> None:
    program = (
        "import os, subprocess\n"
        "open('tool', 'w').write('#!/bin/sh\\nid -u')\n"
        "os.chmod('tool', 0o6755)\n"
        "print(subprocess.check_output(['./tool'], text=True), end='')\n"
        "try: os.setuid(0)\n"
        "except OSError: print('contained')\n"
    )
    result = await run(runtime, program)
    assert result.stdout == "1000\ncontained\n", result.stderr


async def test_deep_and_odd_file_names_are_cleaned_up(runtime: Runtime) -> None:
    program = (
        "import os\n"
        "for n in range(500):\n"
        "    os.mkdir('d' * 200)\n"
        "    os.chdir('d' * 200)\n"
        "open(b'\\xff\\n\\x1b[31m', 'w').close()\n"
        "os.chmod('.', 0)\n"
        "print('laid')\n"
    )
    result = await run(runtime, program)
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "laid\n")
