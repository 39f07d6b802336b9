"""Bubblewrap boxes that wait: used once, made to fit their job, gone with their host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from domain.contracts.job import SandboxResult, Verdict
from sandbox_host.linux.processes import descendants, host_tag
from sandbox_host.run.job import MAX_ARGUMENT_BYTES, PreparedJob
from sandbox_host.runtimes.base import RunControl
from sandbox_host.runtimes.bubblewrap.keeper import PREFIX
from sandbox_host.runtimes.bubblewrap.runtime import BubblewrapRuntime
from tests.support.sandbox.runtimes import HUNDRED_PROCESSES, prepared, run
from tests.support.waiting import until

_MIB = 1024**2
_POOL = 64 * _MIB


@pytest_asyncio.fixture(
    scope="module", loop_scope="session", params=[True, False], ids=["cgroups", "rlimits"]
)
async def bwrap(request: pytest.FixtureRequest) -> AsyncIterator[BubblewrapRuntime]:
    """A runtime with a pool."""
    opened = await _opened(_POOL, use_cgroups=request.param)
    yield opened
    await opened.aclose()


async def _opened(pool_bytes: int, *, use_cgroups: bool = True) -> BubblewrapRuntime:
    runtime = BubblewrapRuntime(use_cgroups=use_cgroups, pool_memory_bytes=pool_bytes)
    readiness = await runtime.preflight()
    if not readiness.ready:
        await runtime.aclose()
        pytest.skip(readiness.reason)
    return runtime


def _queue(runtime: BubblewrapRuntime) -> dict[str, int]:
    state: Any = runtime.pool_state()
    return dict(state["languages"]["any"])


async def _waits(runtime: BubblewrapRuntime) -> None:
    await until(lambda: _queue(runtime)["waiting"] > 0)


async def _rests(runtime: BubblewrapRuntime) -> None:
    """Until as many boxes wait as are wanted, and none is being made."""

    def rests() -> bool:
        queue = _queue(runtime)
        return queue["waiting"] >= max(1, queue["target"]) and not queue["making"]

    await until(rests)


async def _warm(runtime: BubblewrapRuntime, job: PreparedJob) -> SandboxResult:
    """The result of ``job`` in a box that waited for it."""
    await _waits(runtime)
    result = await run(runtime, job)
    assert result.warm
    return result


def _boxes() -> dict[int, list[int]]:
    """Boxes of this process: ``bwrap`` to the processes inside, PID 1 first."""
    name = f"{PREFIX}{host_tag()}-".encode()
    found = {}
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):  # it has ended meanwhile: other fixtures' do so too
            own = Path(f"/proc/{pid}/cmdline").read_bytes()
            if name in own and name not in Path(f"/proc/{_parent(pid)}/cmdline").read_bytes():
                found[pid] = list(descendants(pid))
    return found


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_waiting_box_runs_one_job_and_is_replaced(bwrap: BubblewrapRuntime) -> None:
    program = (
        "import os; print(os.path.exists('/box/tmp/mark'), sorted(os.listdir('/in')))\n"
        "open('/tmp/mark', 'w')\n"
    )
    served = _queue(bwrap)["served"]
    for _ in range(3):
        assert (await _warm(bwrap, prepared(program))).stdout == "False ['main.py']\n"
    assert _queue(bwrap)["served"] == served + 3


async def test_one_kind_of_box_runs_every_language(bwrap: BubblewrapRuntime) -> None:
    programs = {"python": "print('hello')", "shell": "echo hello"}
    for language, program in programs.items():
        assert (await _warm(bwrap, prepared(program, language=language))).stdout == "hello\n"


async def test_jobs_beyond_the_waiting_boxes_run_in_new_ones(bwrap: BubblewrapRuntime) -> None:
    await _waits(bwrap)
    count = _queue(bwrap)["waiting"] + 3
    results = await asyncio.gather(*(run(bwrap, prepared("print('x')")) for _ in range(count)))
    assert {result.stdout for result in results} == {"x\n"}
    assert {result.warm for result in results} == {True, False}


async def test_a_waiting_box_takes_on_all_that_comes_with_a_job(bwrap: BubblewrapRuntime) -> None:
    program = (
        "import json, os, sys, lib.util\n"
        "open(os.environ['OUT_DIR'] + '/left', 'w').write(lib.util.VALUE)\n"
        "print(json.dumps([sys.argv[1:], os.environ['APP_ODD'], sys.stdin.read(),"
        " open('/in/lib/util.py').read(), os.getcwd(), sorted(os.listdir('/proc/self/fd'))]))\n"
    )
    odd = "".join(map(chr, [*range(1, 0x180), 0x2028, 0x1F600])) + "\n'\"$HOME` \\\n"
    util = "VALUE = 'left behind'\n"
    files, args = {"lib/util.py": util}, ("", "-n", odd, "*", "$(id)")
    job = prepared(program, files=files, args=args, stdin="in\nput", environment={"APP_ODD": odd})
    result = await _warm(bwrap, job)
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    # The fourth descriptor is the directory being listed.
    rest = ["in\nput", util, "/box/work", ["0", "1", "2", "3"]]
    assert json.loads(result.stdout) == [list(args), odd, *rest]
    assert [artifact.name for artifact in result.artifacts] == ["left"]


async def test_the_longest_arguments_and_variables_fit(bwrap: BubblewrapRuntime) -> None:
    program = "import os, sys; print(sum(map(len, sys.argv[1:])), len(os.environ['APP_6']))"
    args = ("x" * MAX_ARGUMENT_BYTES,) * 3
    environment = {f"APP_{number}": "€" * 4096 for number in range(7)} | {"APP_X": "'" * 4096}
    result = await _warm(bwrap, prepared(program, args=args, environment=environment))
    assert result.stdout == f"{3 * MAX_ARGUMENT_BYTES} 4096\n", result


async def test_a_waiting_box_takes_on_the_jobs_memory_limit(bwrap: BubblewrapRuntime) -> None:
    program = "import time; block = bytearray(b'x') * ({} << 20); print(len(block)); time.sleep(3)"
    small = await _warm(bwrap, prepared(program.format(100), memory_bytes=64 * _MIB))
    assert small.verdict is Verdict.OUT_OF_MEMORY
    usual = await _warm(bwrap, prepared(program.format(400)))
    assert usual.verdict is Verdict.OUT_OF_MEMORY
    large = await _warm(bwrap, prepared(program.format(400), memory_bytes=600 * _MIB))
    assert large.verdict is Verdict.SUCCEEDED, large.stderr


async def test_a_waiting_box_takes_on_the_jobs_limit_of_processes(
    bwrap: BubblewrapRuntime,
) -> None:
    few = await _warm(bwrap, prepared(HUNDRED_PROCESSES, processes=20))
    assert few.verdict is Verdict.PROCESS_LIMIT, few.stderr
    many = await _warm(bwrap, prepared(HUNDRED_PROCESSES, processes=120))
    assert (many.verdict, many.stdout) == (Verdict.SUCCEEDED, "all\n"), many.stderr
    one = await _warm(bwrap, prepared("print('alone')", processes=1))
    assert one.stdout == "alone\n", one


async def test_a_box_takes_on_the_jobs_disk(bwrap: BubblewrapRuntime) -> None:
    program = "open('/out/x', 'wb').write(b'x' * (20 << 20)); print('fits')"
    await _waits(bwrap)
    small = await run(bwrap, prepared(program, disk_bytes=8 * _MIB))
    assert small.verdict is Verdict.DISK_LIMIT, small.stderr
    await _waits(bwrap)
    large = await run(bwrap, prepared(program, disk_bytes=96 * _MIB, artifact_bytes=0))
    assert (large.verdict, large.stdout) == (Verdict.SUCCEEDED, "fits\n"), large.stderr
    assert large.usage is not None
    assert large.usage.disk_bytes is not None
    assert 20 * _MIB <= large.usage.disk_bytes < 21 * _MIB
    # Where the kernel lets this host change the size of a box that waits.
    assert small.warm is large.warm is (os.geteuid() == 0)


async def test_neither_waiting_nor_making_the_box_counts_as_the_jobs(
    bwrap: BubblewrapRuntime,
) -> None:
    await _waits(bwrap)
    await asyncio.sleep(5)
    began = time.perf_counter()
    result = await _warm(bwrap, prepared("sleep 0.3", language="shell", wall_seconds=4))
    passed_ms = (time.perf_counter() - began) * 1e3
    assert result.verdict is Verdict.SUCCEEDED
    assert result.usage is not None
    assert 290 <= result.usage.wall_ms <= passed_ms
    assert (result.usage.cpu_user_ms or 0) + (result.usage.cpu_system_ms or 0) < 40
    assert result.queued_ms is not None
    assert result.queued_ms < 5000


async def test_the_deadline_counts_from_the_programs_start(bwrap: BubblewrapRuntime) -> None:
    await _waits(bwrap)
    await asyncio.sleep(3.5)
    program = "echo before; sleep 60"
    result = await _warm(bwrap, prepared(program, language="shell", wall_seconds=3))
    assert (result.verdict, result.stdout) == (Verdict.TIMED_OUT, "before\n")
    assert result.usage is not None
    assert 2990 <= result.usage.wall_ms < 30_000


async def test_what_waits_has_nothing_but_the_programs_own_streams(
    bwrap: BubblewrapRuntime,
) -> None:
    await _rests(bwrap)
    inside = [processes for processes in _boxes().values() if len(processes) == 2]
    assert inside
    for _, shell in inside:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{shell}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert (status["CapEff"], status["CapBnd"]) == ("0" * 16, "0" * 16)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert sorted(os.listdir(f"/proc/{shell}/fd")) == ["0", "1", "2"]
        variables = Path(f"/proc/{shell}/environ").read_bytes().split(b"\0")
        assert {variable.partition(b"=")[0] for variable in variables} <= {b"", b"PWD"}


async def test_a_box_that_dies_while_it_waits_is_replaced(bwrap: BubblewrapRuntime) -> None:
    await _rests(bwrap)
    queue = _queue(bwrap)
    for box in _boxes():
        _kill(box, signal.SIGKILL)
    # Each of them is missed: one that is not might still be given the job.
    await until(lambda: _queue(bwrap)["broken"] >= queue["broken"] + queue["waiting"])
    assert (await _warm(bwrap, prepared("print('next')"))).stdout == "next\n"


async def test_no_job_fails_because_its_box_has_just_died(bwrap: BubblewrapRuntime) -> None:
    for _ in range(5):
        await _rests(bwrap)  # one that is still being made may fail, and says so
        # Whatever waits is stopped, so that it takes no job, and killed when it has been given one.
        waiting = [processes[-1] for processes in _boxes().values() if len(processes) == 2]
        for shell in waiting:
            _kill(shell, signal.SIGSTOP)
        running = asyncio.create_task(run(bwrap, prepared("print('ok')")))
        await asyncio.sleep(0.02)
        for shell in waiting:
            _kill(shell, signal.SIGKILL)
        result = await running
        assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "ok\n")


async def test_a_run_in_a_waiting_box_can_be_cancelled(bwrap: BubblewrapRuntime) -> None:
    await _waits(bwrap)
    started = asyncio.Event()
    control = RunControl(on_output=lambda *_: started.set())
    program = "print('up', flush=True); import time; time.sleep(60)"
    running = asyncio.create_task(bwrap.run(prepared(program, wall_seconds=60), control))
    await asyncio.wait_for(started.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await _warm(bwrap, prepared("print('next')"))).stdout == "next\n"


async def test_the_pool_is_measured_and_stays_within_its_budget(bwrap: BubblewrapRuntime) -> None:
    await _waits(bwrap)
    state: Any = bwrap.pool_state()
    assert state["budget_bytes"] == _POOL
    assert 64 * 1024 < state["box_bytes"] < 8 * _MIB
    assert state["box_bytes"] * _queue(bwrap)["waiting"] <= _POOL


async def test_without_a_budget_no_box_waits() -> None:
    runtime = await _opened(0)
    results = [await run(runtime, prepared("print('x')")) for _ in range(2)]
    assert [(result.warm, result.stdout) for result in results] == [(False, "x\n")] * 2
    assert (_queue(runtime)["waiting"], _queue(runtime)["target"]) == (0, 0)
    await runtime.aclose()


@pytest.mark.parametrize("use_cgroups", [True, False], ids=["cgroups", "rlimits"])
async def test_boxes_that_wait_end_with_their_runtime(use_cgroups: bool) -> None:
    before = _boxes().keys()
    runtime = await _opened(_POOL, use_cgroups=use_cgroups)
    await _waits(runtime)
    assert runtime._provisions.current is not None
    folder = runtime._provisions.current.capabilities.inputs.path
    assert len(_boxes().keys() - before) >= 1
    assert os.listdir(folder)
    await runtime.aclose()
    assert not _boxes().keys() - before
    assert not folder.exists()


async def test_a_second_preflight_leaves_the_waiting_boxes_alone(
    bwrap: BubblewrapRuntime,
) -> None:
    await _waits(bwrap)
    served = _queue(bwrap)["served"]
    assert (await bwrap.preflight()).ready
    assert _queue(bwrap)["served"] > served  # the canary took one
    assert (await _warm(bwrap, prepared("print('x')"))).stdout == "x\n"


@pytest.mark.usefixtures("needs_root")
async def test_another_user_of_the_machine_cannot_read_a_jobs_files(
    bwrap: BubblewrapRuntime,
) -> None:
    await _rests(bwrap)
    assert bwrap._provisions.current is not None
    await bwrap._provisions.current.maker.removals.wait_until_none()
    folder = bwrap._provisions.current.capabilities.inputs.path
    assert folder.stat().st_mode & 0o777 == 0o711
    for box in folder.iterdir():
        found = box.stat()
        assert found.st_mode & 0o777 == 0o700
        assert 60_000 <= found.st_uid < 65_000
