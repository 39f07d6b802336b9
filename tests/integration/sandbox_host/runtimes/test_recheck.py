"""A runtime that fails its canary takes no further programs, and leaves those that run alone."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from domain.contracts.job import Verdict
from sandbox_host.runtimes import canary
from sandbox_host.runtimes.base import RunControl, RunResult, Runtime, RuntimeFailure, TooSlow
from sandbox_host.runtimes.containers import runtime as docker
from tests.support.sandbox.runtimes import (
    BUBBLEWRAP,
    CONFINED,
    RLIMITS,
    RUNTIMES,
    on_runtime,
    open_runtime,
    prepared,
    run,
)

#: Needs its folders, and the folder for artifacts, until its end.
_PROGRAM = """\
import os, pathlib, time
pathlib.Path("began").touch()
print("began", flush=True)
time.sleep(5)
pathlib.Path(os.environ["OUT_DIR"], "kept").write_text("x")
print(pathlib.Path("began").exists())
"""

names = pytest.mark.parametrize("name", [*map(on_runtime, RUNTIMES)])


def fails(monkeypatch: pytest.MonkeyPatch, error: RuntimeFailure) -> None:
    """Have every canary fail like this."""

    async def failing(_runtime: Runtime, _program: str = "") -> None:
        raise error

    monkeypatch.setattr(canary, "run_canary", failing)
    monkeypatch.setattr(docker, "run_canary", failing)


async def begun(runtime: Runtime) -> asyncio.Task[RunResult]:
    """A run whose program has begun."""
    began = asyncio.Event()
    control = RunControl(on_output=lambda *_: began.set())
    running = asyncio.create_task(runtime.run(prepared(_PROGRAM), control))
    await asyncio.wait_for(began.wait(), 30)
    return running


@names
async def test_a_program_that_runs_meanwhile_ends_as_it_would_have(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(await open_runtime(name)) as runtime:
        running = await begun(runtime)
        with monkeypatch.context() as broken:
            fails(broken, RuntimeFailure("the canary sang no more"))
            readiness = await runtime.preflight()
            assert (readiness.ready, readiness.reason) == (False, "the canary sang no more")
            with pytest.raises(RuntimeFailure, match="preflight has not passed"):
                await run(runtime, prepared("1"))
        assert (await runtime.preflight()).ready
        assert (await run(runtime, prepared("print('anew')"))).stdout == "anew\n"
        result = (await running).result
        assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, "began\nTrue\n")
        assert [artifact.name for artifact in result.artifacts] == ["kept"]


@names
async def test_a_canary_that_is_only_slow_is_no_failure_while_programs_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(await open_runtime(name)) as runtime:
        languages = (await runtime.preflight()).languages
        running = await begun(runtime)
        with monkeypatch.context() as busy:
            fails(busy, TooSlow("the canary had not ended after 10 s"))
            beside = await runtime.preflight()
            assert (beside.ready, beside.languages) == (True, languages)
            assert (await run(runtime, prepared("print('too')"))).stdout == "too\n"
            assert (await running).result.verdict is Verdict.SUCCEEDED
            alone = await runtime.preflight()
            assert (alone.ready, alone.reason) == (False, "the canary had not ended after 10 s")


@pytest.mark.parametrize("name", [BUBBLEWRAP, RLIMITS, CONFINED])
async def test_a_slow_canary_is_no_failure_beside_programs_that_came_or_are_of_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever canary they began with, and whether before it or during it."""
    async with aclosing(await open_runtime(name)) as runtime:
        running: list[asyncio.Task[RunResult]] = []

        async def slow(_runtime: Runtime, _program: str = "") -> None:
            if not running:
                running.append(await begun(runtime))
            raise TooSlow("the canary had not ended after 10 s")

        with monkeypatch.context() as busy:
            busy.setattr(canary, "run_canary", slow)
            busy.setattr(docker, "run_canary", slow)
            assert (await runtime.preflight()).ready
        with monkeypatch.context() as broken:
            fails(broken, RuntimeFailure("the canary sang no more"))
            assert not (await runtime.preflight()).ready
        with monkeypatch.context() as busy:
            fails(busy, TooSlow("the canary had not ended after 10 s"))
            assert (await runtime.preflight()).ready
        assert (await running[0]).result.verdict is Verdict.SUCCEEDED
