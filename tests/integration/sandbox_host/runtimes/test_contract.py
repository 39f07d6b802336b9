"""What every runtime guarantees to the programs it runs and to whoever reads the results."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time

import pytest

from domain.contracts.job import Verdict
from sandbox_host.run import job as jobs
from sandbox_host.runtimes.base import RunControl, Runtime
from tests.support.sandbox.runtimes import GVISOR, misreported, needs, prepared, run


async def test_output_exit_code_and_ids_come_back(runtime: Runtime) -> None:
    job = prepared("import sys; print('out'); print('err', file=sys.stderr)")
    result = await run(runtime, job)
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.SUCCEEDED, 0, None)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert (result.run_id, result.intent_id) == (job.job.run_id, job.job.intent_id)
    assert result.runtime == runtime.name
    assert result.queued_ms is not None


async def test_shell_programs_run_with_their_arguments_and_stdin(runtime: Runtime) -> None:
    job = prepared(
        'printf "%s|" "$@"; cat', language="shell", args=("a b", "$HOME", "*"), stdin="in\n"
    )
    assert (await run(runtime, job)).stdout == "a b|$HOME|*|in\n"


async def test_python_sees_arguments_stdin_and_sibling_modules(runtime: Runtime) -> None:
    program = "import sys, lib.util; print(sys.argv[1:], sys.stdin.read(), lib.util.VALUE)"
    job = prepared(
        program,
        files={"lib/util.py": "VALUE = open('data/deep/x.txt').read()", "data/deep/x.txt": "42"},
        args=("-c", "é"),
        stdin="input",
    )
    result = await run(runtime, job)
    assert result.stdout == "['-c', 'é'] input 42\n", result.stderr


async def test_the_standard_streams_may_be_opened_by_their_names(runtime: Runtime) -> None:
    program = "tr a-z A-Z < /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr"
    result = await run(runtime, prepared(program, language="shell", stdin="in "))
    assert (result.stdout, result.stderr) == ("IN out\n", "err\n")


async def test_a_nonzero_exit_code_is_reported(runtime: Runtime) -> None:
    result = await run(runtime, prepared("import sys; sys.exit(3)"))
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.EXITED, 3, None)


@pytest.mark.parametrize("number", [6, 9, 11, 15])
async def test_a_signal_that_ends_the_program_is_reported(runtime: Runtime, number: int) -> None:
    result = await run(runtime, prepared(f"import os; os.kill(os.getpid(), {number})"))
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.SIGNALLED, None, number)


@pytest.mark.timeout(300)
async def test_exit_codes_and_signals_are_told_apart(runtime: Runtime) -> None:
    assert await misreported(runtime) == {}


async def test_output_that_looks_like_the_agents_last_word_is_output(runtime: Runtime) -> None:
    program = "import os; os.write(1, b'x\\0\\0\\7'); os.kill(os.getpid(), 15)"
    result = await run(runtime, prepared(program))
    assert (result.verdict, result.signal, result.stdout_bytes) == (Verdict.SIGNALLED, 15, 4)
    program = "import os, time; os.write(1, b'x\\0\\0\\7'); time.sleep(60)"
    result = await run(runtime, prepared(program, wall_seconds=2))
    assert (result.verdict, result.signal, result.stdout_bytes) == (Verdict.TIMED_OUT, 9, 4)


_LOSES_A_CHILD = (
    "import subprocess, sys\n"
    "hog = 'kept = []\\nwhile True: kept.append(bytearray(b\"x\") * (4 << 20))'\n"
    "ended = subprocess.run([sys.executable, '-c', hog], stderr=subprocess.DEVNULL)\n"
    "sys.exit({code})\n"
)


@pytest.mark.parametrize(("code", "verdict"), [(3, "out_of_memory"), (0, "succeeded")])
async def test_a_childs_out_of_memory_is_told_beside_its_parents_exit_code(
    runtime: Runtime, code: int, verdict: str
) -> None:
    limits = (await runtime.preflight()).details["limits"]
    result = await run(runtime, prepared(_LOSES_A_CHILD.format(code=code), memory_bytes=64 << 20))
    found = (result.verdict, result.exit_code, result.signal)
    if runtime.name == "docker+runsc" or limits.startswith("rlimits"):
        # A watchdog ends all of a program, and gVisor is one process to the kernel.
        assert found == (Verdict.OUT_OF_MEMORY, None, 9)
    else:
        assert found == (verdict, code, None)
    assert result.behaviour.limits_hit == ("memory_bytes",)


async def test_a_program_out_of_memory_is_ended_by_a_signal(runtime: Runtime) -> None:
    program = "kept = []\nwhile True: kept.append(bytearray(b'x') * (4 << 20))\n"
    result = await run(runtime, prepared(program, memory_bytes=64 << 20))
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.OUT_OF_MEMORY, None, 9)
    assert result.behaviour.limits_hit == ("memory_bytes",)


async def test_the_workspace_is_writable_empty_and_fresh_for_every_run(runtime: Runtime) -> None:
    program = (
        "import os, tempfile\n"
        "print(sorted(os.listdir('.')), os.getcwd() == os.environ['HOME'])\n"
        "open('left-behind', 'w').write('x')\n"
        "tempfile.NamedTemporaryFile().write(b'x')\n"
    )
    for _ in range(2):
        result = await run(runtime, prepared(program))
        assert result.stdout == "['main.py'] True\n", result.stderr


async def test_the_program_is_an_ordinary_process_without_privileges(runtime: Runtime) -> None:
    needs(runtime, "kernel's status")
    needs(runtime, "own user")
    program = (
        "import os\n"
        "status = dict(line.split(':\\t', 1) for line in open('/proc/self/status'))\n"
        "print(os.getpid() != 1, os.getuid() >= 1000)\n"
        "for name in 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp': print(status[name].strip())\n"
    )
    result = await run(runtime, prepared(program))
    assert result.stdout.split() == ["True", "True", "0" * 16, "0" * 16, "1", "2"]


async def test_no_descriptor_of_the_host_reaches_the_program(runtime: Runtime) -> None:
    result = await run(runtime, prepared("import os; print(sorted(os.listdir('/proc/self/fd')))"))
    # The fourth is the directory being listed.
    assert result.stdout == "['0', '1', '2', '3']\n"


async def test_a_sleeper_is_killed_at_its_deadline(runtime: Runtime) -> None:
    began = time.perf_counter()
    result = await run(
        runtime, prepared("print('before'); import time; time.sleep(90)", wall_seconds=4)
    )
    assert result.verdict is Verdict.TIMED_OUT
    assert result.stdout == "before\n"
    assert time.perf_counter() - began < 60
    assert result.usage is not None
    assert 3900 < result.usage.wall_ms < 30_000


async def test_output_is_cut_at_its_cap_and_counted_in_full(runtime: Runtime) -> None:
    needs(runtime, "whole writes")
    program = "import sys; sys.stdout.write('é' * 50_000); sys.stderr.write('x' * 1500)"
    result = await run(runtime, prepared(program, output_bytes=1001))
    assert result.verdict is Verdict.SUCCEEDED
    assert result.stdout == "é" * 500
    assert (result.stdout_bytes, result.stderr_bytes) == (100_000, 1500)
    assert (result.stdout_truncated, result.stderr_truncated) == (True, True)
    assert result.stderr == "x" * 1001


async def test_binary_output_becomes_valid_text(runtime: Runtime) -> None:
    program = "import sys; sys.stdout.buffer.write(b'a\\0b\\xff\\xe2\\x82c')"
    result = await run(runtime, prepared(program))
    assert result.stdout == "a\N{REPLACEMENT CHARACTER}b" + "\N{REPLACEMENT CHARACTER}" * 2 + "c"
    assert not result.stdout_truncated


async def test_usage_is_measured(runtime: Runtime) -> None:
    program = (
        "import time\n"
        "block = bytearray(b'x') * (60 << 20)\n"
        "end = time.process_time() + 0.3\n"
        "while time.process_time() < end: pass\n"
    )
    result = await run(runtime, prepared(program))
    assert result.verdict is Verdict.SUCCEEDED
    assert result.usage is not None
    assert result.usage.wall_ms >= 300
    if result.usage.cpu_user_ms is not None and result.usage.cpu_system_ms is not None:
        # The clock of a process in gVisor also ticks while it waits for a core.
        least = 20 if runtime.name == "docker+runsc" else 200
        assert least <= result.usage.cpu_user_ms + result.usage.cpu_system_ms < 5000
    if result.usage.peak_memory_bytes is not None:
        assert 60 << 20 <= result.usage.peak_memory_bytes < 120 << 20


async def test_processes_of_a_program_have_one_cpu_together(runtime: Runtime) -> None:
    program = (
        "import os, time\n"
        "end = time.monotonic() + 1\n"
        "children = [os.fork() for _ in range(2)]\n"
        "while time.monotonic() < end: pass\n"
        "if all(children): os.wait(), os.wait()\n"
    )
    result = await run(runtime, prepared(program, wall_seconds=20))
    # On its platform ptrace, gVisor sometimes stops busy processes for good (docs/sandbox.md); what
    # they used until then must be bounded just the same.
    stopped = runtime.name == GVISOR and result.verdict is Verdict.TIMED_OUT
    assert result.verdict is Verdict.SUCCEEDED or stopped
    assert result.usage is not None
    if result.usage.cpu_user_ms is not None and result.usage.cpu_system_ms is not None:
        used = result.usage.cpu_user_ms + result.usage.cpu_system_ms
        # A cgroup's share of a tenth of a second may be used before the first and after the last.
        assert used < 1.1 * result.usage.wall_ms + 200


async def test_a_program_may_use_threads_and_child_processes(runtime: Runtime) -> None:
    needs(runtime, "own user")  # for semaphores in /dev/shm
    program = (
        "import concurrent.futures as f, subprocess\n"
        "def work(n): return n * n\n"
        "if __name__ == '__main__':\n"
        "    with f.ThreadPoolExecutor(4) as pool: print(sum(pool.map(work, range(5))))\n"
        "    with f.ProcessPoolExecutor(2) as pool: print(sum(pool.map(work, range(5))))\n"
        "    print(subprocess.check_output(['sh', '-c', 'echo child'], text=True), end='')\n"
    )
    result = await run(runtime, prepared(program))
    assert result.stdout == "30\n30\nchild\n", result.stderr


async def test_runs_do_not_disturb_each_other(runtime: Runtime) -> None:
    async def one(number: int) -> str:
        program = f"open('n', 'w').write('{number}'); print(open('n').read(), end='')"
        return (await run(runtime, prepared(program))).stdout

    assert await asyncio.gather(*(one(n) for n in range(6))) == [str(n) for n in range(6)]


async def test_a_cancelled_run_kills_its_program_at_once(runtime: Runtime) -> None:
    running = asyncio.create_task(
        run(runtime, prepared("import time; time.sleep(60)", wall_seconds=60))
    )
    await asyncio.sleep(1)
    began = time.perf_counter()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.perf_counter() - began < 30
    assert (await run(runtime, prepared("print('next')"))).stdout == "next\n"


async def test_preflight_of_a_working_runtime_says_how_limits_are_held(runtime: Runtime) -> None:
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    assert {"limits", "seccomp", "apparmor"} <= readiness.details.keys()


_LEAVE = (
    "import os, pathlib\n"
    "out = pathlib.Path(os.environ['OUT_DIR'])\n"
    "(out / 'sub' / 'deep').mkdir(parents=True)\n"
    "(out / 'a.txt').write_text('first')\n"
    "(out / 'sub' / 'deep' / 'b é.bin').write_bytes(bytes(range(256)))\n"
)


async def test_files_left_in_the_output_folder_come_back(runtime: Runtime) -> None:
    result = await run(runtime, prepared(_LEAVE))
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    found = {artifact.name: artifact for artifact in result.artifacts}
    assert list(found) == ["a.txt", "sub/deep/b é.bin"]
    content = base64.b64decode(found["sub/deep/b é.bin"].content or "")
    assert content == bytes(range(256))
    assert found["sub/deep/b é.bin"].sha256 == hashlib.sha256(content).hexdigest()
    assert (found["a.txt"].size, result.skipped_artifacts) == (5, ())


async def test_large_artifacts_are_handed_on_beside_the_result(runtime: Runtime) -> None:
    program = "import os; open(os.environ['OUT_DIR'] + '/large', 'wb').write(b'x' * 5_000_000)"
    outcome = await runtime.run(prepared(program))
    (artifact,) = outcome.result.artifacts
    assert (artifact.name, artifact.size, artifact.content) == ("large", 5_000_000, None)
    assert outcome.collected.contents[artifact.sha256] == b"x" * 5_000_000


async def test_artifacts_past_their_limit_are_named_and_left_out(runtime: Runtime) -> None:
    program = (
        "import os; os.chdir(os.environ['OUT_DIR'])\n"
        "open('fits', 'wb').write(b'x' * 900); open('too-large', 'wb').write(b'x' * 200)\n"
        "os.symlink('/etc/passwd', 'link'); os.mkfifo('fifo')\n"
    )
    result = await run(runtime, prepared(program, artifact_bytes=1000))
    assert [artifact.name for artifact in result.artifacts] == ["fits"]
    skipped = {entry.name: entry.reason for entry in result.skipped_artifacts}
    assert "100 were left" in skipped.pop("too-large")
    # gVisor keeps a FIFO to itself.
    assert {"link"} <= skipped.keys() <= {"link", "fifo"}
    assert set(skipped.values()) == {"is not a regular file"}


async def test_odd_and_too_many_things_left_are_named_truly_and_counted(runtime: Runtime) -> None:
    program = (
        "import os; os.chdir(os.environ['OUT_DIR'])\n"
        "for name in (b'a\\n', b'b\\xff'): open(name, 'w')\n"
        "for n in range(90): os.symlink('gone', f'link{n:02}')\n"
    )
    result = await run(runtime, prepared(program))
    named = {one.name: one.reason for one in result.skipped_artifacts}
    assert named.pop("a\\n") == "its name has control characters"
    assert named.pop("b\\xff") == "its name is not valid UTF-8"
    assert named == {f"link{n:02}": "is not a regular file" for n in range(14)}
    assert result.more_skipped_artifacts == 76


async def test_a_program_that_is_killed_leaves_what_it_wrote(runtime: Runtime) -> None:
    program = _LEAVE + "print('written', flush=True)\nimport time; time.sleep(60)\n"
    result = await run(runtime, prepared(program, wall_seconds=4))
    assert result.verdict is Verdict.TIMED_OUT
    assert [artifact.name for artifact in result.artifacts] == ["a.txt", "sub/deep/b é.bin"]


async def test_the_environment_is_the_jobs_and_nothing_of_the_hosts(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLP_HOST_SECRET", "hunter2")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    job = prepared(program, environment={"APP_MODE": "a b=c\n'é'", "TZ": "UTC"})
    found = json.loads((await run(runtime, job)).stdout)
    assert (found["APP_MODE"], found["TZ"]) == ("a b=c\n'é'", "UTC")
    found.pop("LC_CTYPE", None)  # Python itself sets it where the C locale is in use
    assert found.keys() == {
        *("APP_MODE", "TZ", "PATH", "USER", "LANG", "HOME", "PWD", "TMPDIR", "OUT_DIR"),
        *("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
    }


async def test_a_job_as_large_as_it_may_be_runs(runtime: Runtime) -> None:
    path = "/".join(["d" * 4] * 32 + ["ж" * 42])
    assert len(path) <= 255
    program = (
        "import os, sys\n"
        f"print(open({path!r}).read(), len(open({'ж' * 127!r}).read()))\n"
        "print({arg[0] for arg in sys.argv[1:]}, sum(map(len, sys.argv[1:])))\n"
        "print(sum(len(value) for name, value in os.environ.items() if name[:3] == 'APP'))\n"
    )
    job = prepared(
        program,
        files={path: "deep", "ж" * 127: "long"},
        args=("'" * 32_768, "\n" * 32_768, "$" * 32_768),
        environment={f"APP_{n}": "'" * 4096 for n in range(23)},
        memory_bytes=32 << 20,
    )
    result = await run(runtime, job)
    assert result.stdout.splitlines()[0] == "deep 4", result
    assert result.stdout.splitlines()[2] == str(23 * 4096)


async def test_names_that_only_the_kernel_refuses_are_the_jobs_own_fault(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_NAME_BYTES", 10_000)
    job = prepared("1", files={"ж" * 130: ""})
    with pytest.raises(jobs.InvalidJob, match=r"^files: File name too long; shorten") as refusal:
        await runtime.run(job)
    assert "/" not in str(refusal.value)
    assert (await run(runtime, prepared("print(1)"))).stdout == "1\n"


_FILL = "import os\nwith open({path}, 'wb') as file:\n    while True: file.write(b'x' * 65536)\n"


@pytest.mark.parametrize(
    "path", ["'work'", "os.environ['TMPDIR'] + '/t'", "os.environ['OUT_DIR'] + '/o'"]
)
async def test_a_full_disk_is_the_verdict_wherever_it_was_filled(
    runtime: Runtime, path: str
) -> None:
    result = await run(runtime, prepared(_FILL.format(path=path), disk_bytes=4 << 20))
    assert result.verdict is Verdict.DISK_LIMIT, result.stderr
    assert result.behaviour.limits_hit == ("disk_bytes",)
    assert result.usage is not None
    assert result.usage.disk_bytes is not None
    assert 3 << 20 < result.usage.disk_bytes <= 5 << 20


async def test_too_many_files_are_a_full_disk(runtime: Runtime) -> None:
    program = "n = 0\nwhile True: open(f'f{n}', 'x').close(); n += 1\n"
    job = prepared(program, memory_bytes=512 << 20)
    result = await run(runtime, job)
    assert result.verdict is Verdict.DISK_LIMIT, (result.verdict, result.stderr)


async def test_a_program_that_gets_no_more_processes_fails_for_it(runtime: Runtime) -> None:
    needs(runtime, "process limit")
    program = (
        "import os, time\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0: time.sleep(60)\n"
        "except OSError:\n"
        "    time.sleep(2); raise\n"
    )
    result = await run(runtime, prepared(program, processes=12))
    assert result.verdict is Verdict.PROCESS_LIMIT, result.stderr
    assert result.behaviour.limits_hit == ("processes",)
    assert result.usage is not None
    assert result.usage.peak_processes == 12


async def test_a_program_is_killed_on_request_and_at_once(runtime: Runtime) -> None:
    """In a fraction of a second, where the machine is idle; the bound is for a busy one."""
    control = RunControl()
    started = asyncio.Event()
    control.on_output = lambda *_: started.set()
    job = prepared("import os, time; os.write(1, b'up\\n'); time.sleep(60)", wall_seconds=60)
    running = asyncio.create_task(runtime.run(job, control))
    await asyncio.wait_for(started.wait(), 60)
    began = time.perf_counter()
    control.kill.set()
    result = (await running).result
    assert time.perf_counter() - began < 15
    assert (result.verdict, result.signal) == (Verdict.KILLED_BY_OPERATOR, 9)
    assert result.stdout == "up\n"


async def test_output_is_shown_while_the_program_still_runs(runtime: Runtime) -> None:
    seen: list[tuple[str, bytes]] = []
    control = RunControl(on_output=lambda stream, data: seen.append((stream, data)))
    program = (
        "import sys, time\n"
        "sys.stdout.write('one\\n'); sys.stdout.flush(); time.sleep(0.3)\n"
        "sys.stderr.write('two\\n'); sys.stderr.flush(); time.sleep(60)\n"
    )
    running = asyncio.create_task(runtime.run(prepared(program, wall_seconds=60), control))
    async with asyncio.timeout(60):
        while len(seen) < 2:
            assert not running.done()
            await asyncio.sleep(0.01)
    control.kill.set()
    result = (await running).result
    assert seen == [("stdout", b"one\n"), ("stderr", b"two\n")]
    assert (result.stdout, result.stderr) == ("one\n", "two\n")


async def test_the_jobs_files_are_also_there_to_read_only(runtime: Runtime) -> None:
    needs(runtime, "mounts")
    program = (
        "import os\n"
        "print(open('/in/data/x.txt').read(), sorted(os.listdir('/in')))\n"
        "open('data/x.txt', 'w').write('changed')\n"
        "print(open('/in/data/x.txt').read())\n"
        "for path in ('/in/data/x.txt', '/in/new'):\n"
        "    try: open(path, 'w')\n"
        "    except OSError: print('refused')\n"
        "print(os.environ['OUT_DIR'], os.path.isdir('/out'))\n"
    )
    result = await run(runtime, prepared(program, files={"data/x.txt": "42"}))
    assert result.stdout.splitlines() == [
        "42 ['data', 'main.py']",
        "42",
        "refused",
        "refused",
        "/out True",
    ], result.stderr


async def test_processes_are_counted_and_programs_named(runtime: Runtime) -> None:
    needs(runtime, "behaviour")
    program = (
        "import subprocess\n"
        "running = [subprocess.Popen(['sleep', '3']) for _ in range(3)]\n"
        "for process in running: process.wait()\n"
    )
    result = await run(runtime, prepared(program))
    assert result.usage is not None
    assert result.usage.peak_processes == 4
    assert any(name.startswith("python3") for name in result.behaviour.executed)
    assert "sleep" in result.behaviour.executed


async def test_refused_system_calls_are_counted(runtime: Runtime) -> None:
    needs(runtime, "refused calls")
    program = (
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "for _ in range(5): libc.ptrace(0, 0, 0, 0)\n"
        "libc.mount(None, None, None, 0, None)\n"
    )
    result = await run(runtime, prepared(program))
    assert result.behaviour.refused_syscalls == {"ptrace": 5, "mount": 1}


@pytest.mark.parametrize("language", ["python", "node", "shell"])
async def test_a_program_that_stays_in_its_box_makes_no_network_attempt(
    runtime: Runtime, language: str
) -> None:
    needs(runtime, "network attempts")
    result = await run(runtime, prepared(_HELLO[language], language=language))
    assert result.verdict is Verdict.SUCCEEDED, result
    assert result.behaviour.network_attempts == 0


async def test_attempts_at_the_network_are_counted(runtime: Runtime) -> None:
    needs(runtime, "network attempts")
    program = (
        "import socket\n"
        "for address in ('192.0.2.1', '198.51.100.7'):\n"
        "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
        "        try: socket.socket(socket.AF_INET, kind).connect((address, 80))\n"
        "        except OSError: print('refused')\n"
    )
    result = await run(runtime, prepared(program))
    assert result.stdout == "refused\n" * 4, result
    assert result.behaviour.network_attempts == 4


_HELLO = {
    "python": "print('hello')",
    "shell": "echo hello",
    "node": "console.log('hello')",
    "ruby": "puts 'hello'",
}


@pytest.mark.parametrize("language", _HELLO)
async def test_every_language_that_is_said_to_run_does(runtime: Runtime, language: str) -> None:
    if language not in (await runtime.preflight()).languages:
        pytest.skip(f"{runtime.name} does not offer {language} here")
    result = await run(runtime, prepared(_HELLO[language], language=language))
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "hello\n"), result.stderr


async def test_at_least_python_and_the_shell_can_run(runtime: Runtime) -> None:
    assert {"python", "shell"} <= set((await runtime.preflight()).languages)


async def test_a_name_that_is_no_text_hides_nothing_from_the_memory_limit(runtime: Runtime) -> None:
    program = (
        "import ctypes, time\n"
        "ctypes.CDLL(None).prctl(15, b'a\\xff', 0, 0, 0)\n"
        "time.sleep(0.6)\n"
        "held = []\n"
        "for _ in range(64): held.append(b'x' * (4 << 20)); time.sleep(0.01)\n"
        "time.sleep(20)\n"
    )
    result = await run(runtime, prepared(program, wall_seconds=8, memory_bytes=96 << 20))
    assert result.verdict is Verdict.OUT_OF_MEMORY, result
