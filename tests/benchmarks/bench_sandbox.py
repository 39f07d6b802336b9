"""What one program costs in each runtime, against a plain process and against other sandboxes.

``python -m tests.benchmarks.bench_sandbox [RUNS [NAME…]]``. All take about four minutes; names,
such as ``bubblewrap``, choose the rows that begin with them. The program is ``print(1)`` in Python.
Every run alternates with the program as a plain process, so that a ratio is one of the same
moments; a warm box is waited for.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from domain.contracts.job import JobLimits, Verdict
from sandbox_host.linux.processes import adopt_orphans
from sandbox_host.runtimes.base import Pooled, RunControl, Runtime
from sandbox_host.runtimes.choice import RuntimeOptions
from sandbox_host.runtimes.docker.runtime import DockerRuntime
from sandbox_host.settings import DEFAULT_IMAGES, RuntimeName
from tests.benchmarks.parts import missing, opened, skip
from tests.benchmarks.statistics_of import percentile
from tests.support.sandbox.runtimes import prepared

_PYTHON = "/usr/bin/python3"
_PROGRAM = "print(1)"
_IMAGE = DEFAULT_IMAGES.format(language="python")
_POOL = RuntimeOptions(pool_memory_bytes=1024**3)
_COLD = RuntimeOptions(pool_memory_bytes=0)
_GVISOR = "runsc"
_LOAD_SECONDS = 3.0
_CONCURRENCIES = (1, 2, 4, 8)


@dataclass
class Latencies:
    """Milliseconds from the job, one of each per run; and those of plain processes in between."""

    first: list[float] = field(default_factory=list)
    verdict: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        """Median and 95th percentile of both, and the ratio of the verdict to the plain one."""
        columns = [
            f"{percentile(times, rank):9.1f}" if times else f"{'-':>9}"
            for times in (self.first, self.verdict)
            for rank in (50, 95)
        ]
        floor = percentile(self.plain, 50)
        ratio = percentile(self.verdict, 50) / floor
        return f"{name:24}{''.join(columns)}{floor:9.1f}{ratio:9.1f}"


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3


async def _process(*command: str) -> tuple[float, float]:
    """First output and end of a process, milliseconds."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.read(1) == b"1"
    first = _since(began)
    await process.communicate()
    return first, _since(began)


async def plain() -> tuple[float, float]:
    """The program without any sandbox."""
    return await _process(_PYTHON, "-c", _PROGRAM)


async def docker_run() -> tuple[float, float]:
    """A new container by the command line."""
    command = ("docker", "run", "--rm", "--network=none", _IMAGE)
    return await _process(*command, "python3", "-c", _PROGRAM)


def _llm_sandbox() -> float:
    """Another library's session with one run; it wants to be root, and a ``python``."""
    from llm_sandbox import SandboxSession

    began = time.perf_counter()
    with SandboxSession(
        lang="python",
        image=_IMAGE,
        keep_template=True,
        skip_environment_setup=True,
        runtime_configs={"user": "root", "network_mode": "none", "command": ["sleep", "60"]},
    ) as session:
        paused = time.perf_counter()
        session.execute_command("ln -s python3 /usr/bin/python")
        began += time.perf_counter() - paused
        assert session.run(_PROGRAM).stdout == "1\n"
    return _since(began)


async def in_box(runtime: Runtime) -> tuple[float, float]:
    """The program in a runtime; in a waiting box, where it keeps some."""
    firsts: list[float] = []
    began = time.perf_counter()
    control = RunControl(on_output=lambda _name, _data: firsts.append(_since(began)))
    result = (await runtime.run(prepared(_PROGRAM), control)).result
    verdict = _since(began)
    assert result.verdict is Verdict.SUCCEEDED, result
    return firsts[0], verdict


def _queue(runtime: Runtime) -> dict[str, Any] | None:
    """What the pool says of Python's boxes; None without a pool, or with an empty one."""
    if not isinstance(runtime, Pooled):
        return None
    state: Any = runtime.pool_state()
    if not state.get("budget_bytes"):
        return None
    queues: dict[str, dict[str, Any]] = state["languages"]
    return queues.get("python") or queues["any"]


async def _at_rest(runtime: Runtime) -> None:
    """Wait until as many boxes wait as are wanted, and those of earlier jobs are gone."""
    async with asyncio.timeout(30):
        while (queue := _queue(runtime)) and queue["waiting"] < max(1, queue["target"]):
            await asyncio.sleep(0.01)
        if isinstance(runtime, DockerRuntime) and runtime._provisions.current is not None:
            await runtime._provisions.current.maker.removals.wait_until_none()


async def _nothing() -> None:
    return None


async def measure(
    one: Callable[[], Awaitable[tuple[float, float]]],
    runs: int,
    rest: Callable[[], Awaitable[None]] = _nothing,
) -> Latencies:
    """``runs`` of ``one``, each at rest and after a plain process; a first one does not count."""
    found = Latencies()
    await one()
    for _ in range(runs):
        await rest()
        found.plain.append((await plain())[1])
        first, verdict = await one()
        found.first.append(first)
        found.verdict.append(verdict)
    return found


async def box_creation(runtime: DockerRuntime, runs: int) -> str:
    """From nothing to an agent that waits for a job, one box at a time."""
    provisioned = runtime._provisions.current
    assert provisioned is not None
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        box = await provisioned.maker.make(provisioned.images["python"], JobLimits())
        times.append(_since(began))
        provisioned.maker.discard(box)
        await provisioned.maker.removals.wait_until_none()
    return f"median {percentile(times, 50):.0f} ms, p95 {percentile(times, 95):.0f} ms"


async def jobs_per_second(runtime: Runtime, concurrency: int) -> float:
    """The sustained rate: boxes that wait at the beginning are used up first and do not count."""
    for _ in range((_queue(runtime) or {"waiting": 0})["waiting"]):
        await runtime.run(prepared(_PROGRAM))
    began, done = time.perf_counter(), 0

    async def work() -> None:
        nonlocal done
        while time.perf_counter() - began < _LOAD_SECONDS:
            result = (await runtime.run(prepared(_PROGRAM))).result
            assert result.verdict is Verdict.SUCCEEDED, result
            done += 1

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return done / (time.perf_counter() - began)


async def burst(runtime: Runtime) -> str:
    """As many jobs at once as boxes wait after the load above."""
    await _at_rest(runtime)
    count = (_queue(runtime) or {"waiting": 0})["waiting"]
    began = time.perf_counter()
    runs = await asyncio.gather(*(runtime.run(prepared(_PROGRAM)) for _ in range(count)))
    rate = count / (time.perf_counter() - began)
    warm = sum(run.result.warm for run in runs)
    return f"{count} jobs at once, {warm} in waiting boxes: {rate:.0f} jobs/s"


async def examine(label: str, name: RuntimeName, options: RuntimeOptions, runs: int) -> None:
    """Print a runtime's latencies, rates and memory."""
    async with opened(name, options) as runtime:
        if isinstance(runtime, str):
            print(f"{label:24} skipped: {runtime}")
            return
        found = await measure(lambda: in_box(runtime), runs, lambda: _at_rest(runtime))
        print(found.row(label), flush=True)
        rates = [f"{await jobs_per_second(runtime, n):.1f} at {n}" for n in _CONCURRENCIES]
        print(f"{'':24}  jobs/s sustained: {', '.join(rates)}")
        if _queue(runtime) and isinstance(runtime, Pooled):
            state: Any = runtime.pool_state()
            print(f"{'':24}  burst: {await burst(runtime)}")
            print(f"{'':24}  a box takes {state['box_bytes'] / 1e6:.1f} MB while it waits")
        elif isinstance(runtime, DockerRuntime):
            print(f"{'':24}  a box is made in: {await box_creation(runtime, runs)}", flush=True)


async def by_docker_run(runs: int) -> Latencies:
    """A new container for each run."""
    return await measure(docker_run, runs // 2)


async def by_llm_sandbox(_runs: int) -> Latencies:
    """Two sessions of llm-sandbox, which take long."""
    found = Latencies()
    for _ in range(2):
        found.plain.append((await plain())[1])
        found.verdict.append(await asyncio.to_thread(_llm_sandbox))
    return found


#: What others make of the same engine, by the label of its row.
_OTHERS = {"docker run": by_docker_run, "llm-sandbox 0.3.46": by_llm_sandbox}


def _not_installed(label: str) -> str | None:
    if label == "docker run":
        return None if shutil.which("docker") else "the docker command is not installed"
    return None if importlib.util.find_spec("llm_sandbox") else "llm-sandbox is not installed"


async def compare(runs: int, names: list[str]) -> None:
    """Measure all that this machine has, or the rows of it that ``names`` choose."""

    def chosen(label: str) -> bool:
        return not names or label.startswith(tuple(names))

    print(
        f"{'ms, ' + str(runs) + ' runs':24}{'first output':>18}{'verdict':>18}{'plain':>9}{'x':>9}"
    )
    print(f"{'':24}{'median':>9}{'p95':>9}{'median':>9}{'p95':>9}{'median':>9}{'plain':>9}")
    print((await measure(plain, runs)).row("plain process"))
    gvisor = RuntimeOptions(engine_runtime=_GVISOR)
    rows: tuple[tuple[str, RuntimeName, RuntimeOptions, int], ...] = (
        ("docker, warm", "docker", _POOL, runs),
        ("docker, cold", "docker", _COLD, runs // 2),
        ("bubblewrap, warm", "bubblewrap", _POOL, runs),
        ("bubblewrap, cold", "bubblewrap", _COLD, runs),
        ("confined process", "confined", _COLD, runs),
        ("docker+runsc, warm", "docker", replace(gvisor, pool_memory_bytes=1024**3), runs // 2),
        ("docker+runsc, cold", "docker", gvisor, runs // 4),
    )
    for label, name, options, times in rows:
        if chosen(label):
            await examine(label, name, options, times)
    others = {label: find for label, find in _OTHERS.items() if chosen(label)}
    no_docker = await missing("docker") if others else None
    for label, find in others.items():
        reason = no_docker or _not_installed(label)
        row = f"{label:24} skipped: {reason}" if reason else (await find(runs)).row(label)
        print(row, flush=True)


def main() -> None:
    """Command line."""
    logging.disable(logging.WARNING)
    if not Path(_PYTHON).exists():
        skip(f"{_PYTHON}, which boxes run, is not installed")
    adopt_orphans()
    runs, *names = sys.argv[1:] or ["20"]
    asyncio.run(compare(max(4, int(runs)), names))


if __name__ == "__main__":
    main()
