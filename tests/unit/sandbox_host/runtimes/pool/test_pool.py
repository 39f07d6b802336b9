"""What the pool guarantees to jobs, whatever its boxes are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.pool.pool import BoxPool
from tests.support.waiting import until

COST = 1024**2


class Box:
    """A box of the pool's making; breaks when told to."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.end = asyncio.Event()

    async def broken(self) -> None:
        await self.end.wait()

    def cost_bytes(self) -> int:
        return COST


class Workshop:
    """Makes boxes, each in some seconds, and remembers what became of them."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.made: list[Box] = []
        self.discarded: list[Box] = []
        self.at_once = 0
        self.most_at_once = 0
        self.failure: str | None = None
        self.fails_for: tuple[str, ...] = ("python", "ruby")
        self.complaints = 0
        self.open = asyncio.Event()
        self.open.set()

    async def make(self, language: str) -> Box:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.seconds)
            await self.open.wait()
            if self.failure is not None and language in self.fails_for:
                raise RuntimeFailure(self.failure)
            self.made.append(Box(language))
            return self.made[-1]
        finally:
            self.at_once -= 1

    def discard(self, box: Box) -> None:
        self.discarded.append(box)

    def complain(self) -> None:
        self.complaints += 1


@asynccontextmanager
async def pool_of(
    workshop: Workshop, *languages: str, budget: int = 100 * COST, least: int = 1
) -> AsyncIterator[BoxPool[Box]]:
    pool = BoxPool(
        languages or ("python",), workshop.make, workshop.discard, budget, workshop.complain, least
    )
    pool.start()
    try:
        yield pool
    finally:
        await pool.aclose()


def _queue(pool: BoxPool[Box], language: str = "python") -> dict[str, int]:
    languages = pool.state()["languages"]
    assert isinstance(languages, dict)
    found = languages[language]
    assert isinstance(found, dict)
    return found


async def test_a_box_waits_for_each_language() -> None:
    async with pool_of(Workshop(), "python", "node") as pool:
        await until(lambda: _queue(pool)["waiting"] == 1 and _queue(pool, "node")["waiting"] == 1)


async def test_a_waiting_box_is_taken_once_and_replaced() -> None:
    workshop = Workshop()
    async with pool_of(workshop) as pool:
        await until(lambda: _queue(pool)["waiting"] == 1)
        first, warm = await pool.take("python")
        assert warm
        pool.done()
        await until(lambda: _queue(pool)["waiting"] >= 1)
        second, _ = await pool.take("python")
        pool.done()
        assert second is not first


async def test_a_new_box_is_made_after_the_job_while_another_waits() -> None:
    workshop = Workshop()
    async with pool_of(workshop, least=2) as pool:
        await until(lambda: _queue(pool)["waiting"] == 2)
        await pool.take("python")
        began = time.monotonic()
        pool.done()
        await until(lambda: len(workshop.made) >= 3)
        assert time.monotonic() - began > 0.05


async def test_jobs_beyond_the_boxes_wait_for_new_ones_made_at_once() -> None:
    workshop = Workshop()
    async with pool_of(workshop, budget=0) as pool:
        workshop.open.clear()
        taking = [asyncio.create_task(pool.take("python")) for _ in range(5)]
        await until(lambda: workshop.at_once == 5)
        workshop.open.set()
        taken = await asyncio.gather(*taking)
        assert [warm for _, warm in taken] == [False] * 5
        assert len({id(box) for box, _ in taken}) == 5


async def test_no_boxes_wait_without_a_budget() -> None:
    workshop = Workshop()
    async with pool_of(workshop, budget=0) as pool:
        await pool.take("python")
        pool.done()
        await asyncio.sleep(0.2)
        assert _queue(pool)["waiting"] == 0
        assert len(workshop.made) == 1


async def test_the_budget_bounds_what_waits() -> None:
    workshop = Workshop(seconds=0.2)
    async with pool_of(workshop, budget=3 * COST) as pool:
        await asyncio.gather(*(pool.take("python") for _ in range(30)))
        for _ in range(30):
            pool.done()
        await until(lambda: _queue(pool)["waiting"] == 3)
        assert _queue(pool)["target"] == 3


async def test_few_boxes_are_made_ahead_at_once() -> None:
    workshop = Workshop()
    async with pool_of(workshop, *"abcdefgh") as pool:
        await until(lambda: all(_queue(pool, name)["waiting"] == 1 for name in "abcdefgh"))
        assert workshop.most_at_once <= 2


async def test_a_box_that_breaks_while_it_waits_is_replaced_and_no_job_gets_it() -> None:
    workshop = Workshop()
    async with pool_of(workshop) as pool:
        await until(lambda: _queue(pool)["waiting"] == 1)
        workshop.made[0].end.set()
        await until(lambda: _queue(pool)["broken"] == 1 and _queue(pool)["waiting"] == 1)
        assert workshop.discarded == [workshop.made[0]]
        box, warm = await pool.take("python")
        pool.done()
        assert warm
        assert box is workshop.made[1]


async def test_a_job_learns_why_its_box_could_not_be_made_and_the_pool_tries_again() -> None:
    workshop = Workshop()
    workshop.failure = "no engine"
    async with pool_of(workshop) as pool:
        with pytest.raises(RuntimeFailure, match="no engine"):
            await pool.take("python")
        assert pool.state()["last_error"] == "no engine"
        workshop.failure = None
        await until(lambda: _queue(pool)["waiting"] >= 1)
        assert pool.state()["last_error"] is None


async def test_a_box_that_cannot_be_made_ahead_is_reported_and_other_languages_go_on() -> None:
    workshop = Workshop()
    workshop.failure, workshop.fails_for = "no image", ("ruby",)
    async with pool_of(workshop, "python", "ruby") as pool:
        await until(lambda: workshop.complaints == 1)
        for _ in range(4):  # each failure doubles the pause before the next box is tried
            with pytest.raises(RuntimeFailure, match="no image"):
                await pool.take("ruby")
        for _ in range(3):  # that Python's can be made does not have Ruby's tried any sooner
            await until(lambda: _queue(pool)["waiting"] >= 1)
            await pool.take("python")
            pool.done()
        assert workshop.complaints == 1


async def test_the_box_of_a_cancelled_job_serves_another() -> None:
    workshop = Workshop()
    workshop.open.clear()
    async with pool_of(workshop, budget=0) as pool:
        cancelled = asyncio.create_task(pool.take("python"))
        other = asyncio.create_task(pool.take("python"))
        await until(lambda: workshop.at_once == 2)
        cancelled.cancel()
        workshop.open.set()
        box, _ = await other
        pool.done()
        await until(lambda: len(workshop.made) == 2 and len(workshop.discarded) == 1)
        assert box not in workshop.discarded


async def test_closing_discards_what_waits_and_what_is_being_made() -> None:
    workshop = Workshop()
    async with pool_of(workshop, "python", "node"):
        await until(lambda: len(workshop.made) == 2)
    assert set(workshop.discarded) == set(workshop.made)
