"""A job gets a box of its own, and another one where that dies before the program starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from domain.contracts.job import SandboxResult, Verdict
from sandbox_host.runtimes.base import BoxGone, RunResult, RuntimeFailure
from sandbox_host.runtimes.pool.pool import BoxPool
from sandbox_host.runtimes.pool.removal import Removals
from sandbox_host.runtimes.pool.run import run_in_a_box
from tests.support.sandbox.runtimes import prepared
from tests.support.waiting import until


class Box:
    """Never breaks by itself."""

    async def broken(self) -> None:
        await asyncio.get_running_loop().create_future()

    def cost_bytes(self) -> int | None:
        return None


class Maker:
    """Makes boxes and remembers what became of them."""

    def __init__(self) -> None:
        self.removals = Removals()
        self.made: list[Box] = []
        self.discarded: list[Box] = []

    async def make(self, _language: str = "") -> Box:
        self.made.append(Box())
        return self.made[-1]

    def discard(self, box: Box) -> None:
        self.discarded.append(box)


class Program:
    """Runs in boxes, of which the first ones die."""

    def __init__(self, dying: int = 0) -> None:
        self.dying = dying
        self.boxes: list[Box] = []

    async def run(self, box: Box, warm: bool) -> RunResult:
        self.boxes.append(box)
        if len(self.boxes) <= self.dying:
            raise BoxGone("it died")
        job = prepared("").job
        return RunResult(
            SandboxResult(
                run_id=job.run_id, intent_id=job.intent_id, verdict=Verdict.SUCCEEDED, warm=warm
            )
        )


@asynccontextmanager
async def pool_of(maker: Maker) -> AsyncIterator[BoxPool[Box]]:
    """One that keeps no box waiting."""
    pool = BoxPool(("python",), maker.make, maker.discard, 0, lambda: None)
    try:
        yield pool
    finally:
        await pool.aclose()


@pytest.mark.parametrize("own", [False, True])
async def test_a_job_takes_another_box_when_one_dies_too_early(own: bool) -> None:
    maker, program = Maker(), Program(dying=2)
    async with pool_of(maker) as pool:
        make = maker.make if own else None
        finished = await run_in_a_box(pool, "python", maker, program.run, make)
    assert finished.result.verdict is Verdict.SUCCEEDED
    assert len(set(map(id, program.boxes))) == 3
    assert maker.discarded == program.boxes == maker.made


async def test_a_job_whose_boxes_all_die_is_given_up() -> None:
    maker, program = Maker(), Program(dying=100)
    async with pool_of(maker) as pool:
        with pytest.raises(RuntimeFailure, match=r"^4 boxes died before the program started$"):
            await run_in_a_box(pool, "python", maker, program.run)
    assert maker.discarded == program.boxes
    assert len(program.boxes) == 4


async def test_a_box_made_for_a_job_that_was_cancelled_meanwhile_is_discarded() -> None:
    maker, begun, go_on = Maker(), asyncio.Event(), asyncio.Event()

    async def make() -> Box:
        begun.set()
        await go_on.wait()
        return await maker.make()

    async with pool_of(maker) as pool:
        running = asyncio.create_task(run_in_a_box(pool, "python", maker, Program().run, make))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        go_on.set()
        await until(lambda: maker.discarded)
    assert maker.discarded == maker.made
