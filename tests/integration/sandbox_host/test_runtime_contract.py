"""What every runtime guarantees to the programs it runs and to whoever reads the results."""

from __future__ import annotations

import asyncio
import time

import pytest

from domain.sandbox.contract import Verdict
from sandbox_host.runtimes.base import Runtime
from tests.fixtures.sandbox import prepared


async def test_output_exit_code_and_ids_come_back(runtime: Runtime) -> None:
    job = prepared("import sys; print('out'); print('err', file=sys.stderr)")
    result = await runtime.run(job)
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.SUCCEEDED, 0, None)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert (result.run_id, result.intent_id) == (job.job.run_id, job.job.intent_id)
    assert result.runtime == runtime.name
    assert result.queued_ms is not None


async def test_shell_programs_run_with_their_arguments_and_stdin(runtime: Runtime) -> None:
    job = prepared(
        'printf "%s|" "$@"; cat', language="shell", args=("a b", "$HOME", "*"), stdin="in\n"
    )
    assert (await runtime.run(job)).stdout == "a b|$HOME|*|in\n"


async def test_python_sees_arguments_stdin_and_sibling_modules(runtime: Runtime) -> None:
    program = "import sys, lib.util; print(sys.argv[1:], sys.stdin.read(), lib.util.VALUE)"
    job = prepared(
        program,
        files={"lib/util.py": "VALUE = open('data/deep/x.txt').read()", "data/deep/x.txt": "42"},
        args=("-c", "é"),
        stdin="input",
    )
    result = await runtime.run(job)
    assert result.stdout == "['-c', 'é'] input 42\n", result.stderr


async def test_a_nonzero_exit_code_is_reported(runtime: Runtime) -> None:
    result = await runtime.run(prepared("import sys; sys.exit(3)"))
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.EXITED, 3, None)


@pytest.mark.parametrize("number", [6, 9, 11, 15])
async def test_a_signal_that_ends_the_program_is_reported(runtime: Runtime, number: int) -> None:
    result = await runtime.run(prepared(f"import os; os.kill(os.getpid(), {number})"))
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.SIGNALLED, None, number)


async def test_the_workspace_is_writable_empty_and_fresh_for_every_run(runtime: Runtime) -> None:
    program = (
        "import os, tempfile\n"
        "print(sorted(os.listdir('.')), os.getcwd() == os.environ['HOME'])\n"
        "open('left-behind', 'w').write('x')\n"
        "tempfile.NamedTemporaryFile().write(b'x')\n"
    )
    for _ in range(2):
        result = await runtime.run(prepared(program))
        assert result.stdout == "['main.py'] True\n", result.stderr


async def test_the_program_is_an_ordinary_process_without_privileges(runtime: Runtime) -> None:
    program = (
        "import os\n"
        "status = dict(line.split(':\\t', 1) for line in open('/proc/self/status'))\n"
        "print(os.getpid() != 1, os.getuid(), status['CapEff'].strip(), status['CapBnd'].strip(),"
        " status['NoNewPrivs'].strip(), status['Seccomp'].strip())\n"
    )
    result = await runtime.run(prepared(program))
    assert result.stdout == f"True 1000 {'0' * 16} {'0' * 16} 1 2\n"


async def test_no_descriptor_of_the_host_reaches_the_program(runtime: Runtime) -> None:
    result = await runtime.run(prepared("import os; print(sorted(os.listdir('/proc/self/fd')))"))
    # The fourth is the directory being listed.
    assert result.stdout == "['0', '1', '2', '3']\n"


async def test_a_sleeper_is_killed_at_its_deadline(runtime: Runtime) -> None:
    began = time.perf_counter()
    result = await runtime.run(
        prepared("print('before'); import time; time.sleep(60)", wall_seconds=0.5)
    )
    assert result.verdict is Verdict.TIMED_OUT
    assert result.stdout == "before\n"
    assert time.perf_counter() - began < 10
    assert result.usage is not None
    assert 400 < result.usage.wall_ms < 5000


async def test_output_is_cut_at_its_cap_and_counted_in_full(runtime: Runtime) -> None:
    program = "import sys; sys.stdout.write('é' * 50_000); sys.stderr.write('x' * 1500)"
    result = await runtime.run(prepared(program, output_bytes=1001))
    assert result.verdict is Verdict.SUCCEEDED
    assert result.stdout == "é" * 500
    assert (result.stdout_bytes, result.stderr_bytes) == (100_000, 1500)
    assert (result.stdout_truncated, result.stderr_truncated) == (True, True)
    assert result.stderr == "x" * 1001


async def test_binary_output_becomes_valid_text(runtime: Runtime) -> None:
    program = "import sys; sys.stdout.buffer.write(b'a\\0b\\xff\\xe2\\x82c')"
    result = await runtime.run(prepared(program))
    assert result.stdout == "a\N{REPLACEMENT CHARACTER}b" + "\N{REPLACEMENT CHARACTER}" * 2 + "c"
    assert not result.stdout_truncated


async def test_usage_is_measured(runtime: Runtime) -> None:
    program = (
        "import time\n"
        "block = bytearray(b'x') * (60 << 20)\n"
        "end = time.process_time() + 0.3\n"
        "while time.process_time() < end: pass\n"
    )
    result = await runtime.run(prepared(program))
    assert result.verdict is Verdict.SUCCEEDED
    assert result.usage is not None
    assert result.usage.wall_ms >= 300
    if result.usage.cpu_user_ms is not None and result.usage.cpu_system_ms is not None:
        assert 200 <= result.usage.cpu_user_ms + result.usage.cpu_system_ms < 5000
    if result.usage.peak_memory_bytes is not None:
        assert 60 << 20 <= result.usage.peak_memory_bytes < 120 << 20


async def test_a_program_may_use_threads_and_child_processes(runtime: Runtime) -> None:
    program = (
        "import concurrent.futures as f, subprocess\n"
        "def work(n): return n * n\n"
        "if __name__ == '__main__':\n"
        "    with f.ThreadPoolExecutor(4) as pool: print(sum(pool.map(work, range(5))))\n"
        "    with f.ProcessPoolExecutor(2) as pool: print(sum(pool.map(work, range(5))))\n"
        "    print(subprocess.check_output(['sh', '-c', 'echo child'], text=True), end='')\n"
    )
    result = await runtime.run(prepared(program))
    assert result.stdout == "30\n30\nchild\n", result.stderr


async def test_runs_do_not_disturb_each_other(runtime: Runtime) -> None:
    async def one(number: int) -> str:
        program = f"open('n', 'w').write('{number}'); print(open('n').read(), end='')"
        return (await runtime.run(prepared(program))).stdout

    assert await asyncio.gather(*(one(n) for n in range(6))) == [str(n) for n in range(6)]


async def test_a_cancelled_run_kills_its_program_at_once(runtime: Runtime) -> None:
    running = asyncio.create_task(
        runtime.run(prepared("import time; time.sleep(60)", wall_seconds=60))
    )
    await asyncio.sleep(1)
    began = time.perf_counter()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.perf_counter() - began < 10
    assert (await runtime.run(prepared("print('next')"))).stdout == "next\n"


async def test_preflight_of_a_working_runtime_says_how_limits_are_held(runtime: Runtime) -> None:
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    assert {"limits", "seccomp", "apparmor"} <= readiness.details.keys()
