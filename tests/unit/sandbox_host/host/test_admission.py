"""Programs share a host's memory fairly, and none waits for what it can never have."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sandbox_host.host.admission import MemoryBudget, MemoryShares, cgroup_limits
from sandbox_host.run.job import InvalidJob


async def hold(budget: MemoryBudget, amount: int, order: list[int]) -> AsyncExitStack:
    stack = AsyncExitStack()
    await stack.enter_async_context(budget.reserve(amount))
    order.append(amount)
    return stack


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_fits_starts_at_once_and_is_given_back() -> None:
    budget = MemoryBudget(100)
    async with budget.reserve(60), budget.reserve(40):
        assert budget.reserved == 100
    assert budget.reserved == 0


async def test_a_large_job_is_not_overtaken_by_small_ones() -> None:
    budget, order = MemoryBudget(100), list[int]()
    first = await hold(budget, 50, order)
    large = asyncio.create_task(hold(budget, 80, order))
    await settle()
    small = asyncio.create_task(hold(budget, 10, order))
    await settle()
    assert (order, budget.waiting) == ([50], 2)
    await first.aclose()
    await asyncio.gather(large, small)
    assert order == [50, 80, 10]


async def test_while_a_job_waits_no_more_are_asked_for() -> None:
    budget = MemoryBudget(100, usual=10)
    await asyncio.wait_for(budget.wait_for_capacity(), 10)
    first = await hold(budget, 90, [])
    waiting = asyncio.create_task(hold(budget, 20, []))
    await settle()
    capacity = asyncio.create_task(budget.wait_for_capacity())
    await settle()
    assert not capacity.done()
    await first.aclose()
    await asyncio.wait_for(capacity, 10)
    await (await waiting).aclose()
    assert budget.reserved == 0


async def test_no_more_are_asked_for_than_could_start() -> None:
    budget = MemoryBudget(100, usual=40)
    first = await hold(budget, 60, [])
    await asyncio.wait_for(budget.wait_for_capacity(), 10)
    second = await hold(budget, 10, [])
    capacity = asyncio.create_task(budget.wait_for_capacity())
    await settle()
    assert not capacity.done()
    await second.aclose()
    await asyncio.wait_for(capacity, 10)
    await first.aclose()


async def test_an_idle_host_asks_for_jobs_however_small_it_is() -> None:
    await asyncio.wait_for(MemoryBudget(100, usual=101).wait_for_capacity(), 10)


async def test_a_job_that_stops_waiting_lets_the_next_ones_through() -> None:
    budget, order = MemoryBudget(100), list[int]()
    first = await hold(budget, 50, order)
    large = asyncio.create_task(hold(budget, 80, order))
    await settle()
    small = asyncio.create_task(hold(budget, 30, order))
    await settle()
    large.cancel()
    second = await asyncio.wait_for(small, 10)
    assert (order, budget.reserved, budget.waiting) == ([50, 30], 80, 0)
    await first.aclose()
    await second.aclose()


async def test_memory_granted_to_a_job_that_is_cancelled_meanwhile_is_not_lost() -> None:
    budget = MemoryBudget(100)
    first = await hold(budget, 100, [])
    waiting = asyncio.create_task(hold(budget, 100, []))
    await settle()
    await first.aclose()  # grants it before the task has run again
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.reserved == 0


async def test_what_can_never_fit_is_refused_by_name_and_ceiling() -> None:
    budget = MemoryBudget(100)
    with pytest.raises(InvalidJob, match=r"limits\.memory_bytes: 101 .* 100 bytes"):
        async with budget.reserve(101):
            pass


def test_settings_come_before_what_the_machine_has() -> None:
    assert MemoryShares.of_host(1000, 10) == MemoryShares(1000, 10)


def test_without_settings_programs_and_pool_share_part_of_the_machine() -> None:
    shares = MemoryShares.of_host(None, None)
    assert 0 < shares.pool <= 256 * 1024**2 < shares.programs
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert shares.programs + shares.pool <= 0.76 * total


def test_limits_of_cgroups_above_count_too(tmp_path: Path) -> None:
    own, mounted = tmp_path / "own", tmp_path / "mounted"
    own.write_text("0::/a/b\n4:memory:/x\n2:cpu:/c\n")
    (mounted / "a/b").mkdir(parents=True)
    (mounted / "memory").mkdir()
    (mounted / "a/memory.max").write_text("5000\n")
    (mounted / "a/b/memory.max").write_text("max\n")
    (mounted / "memory/memory.limit_in_bytes").write_text("7000\n")
    assert sorted(cgroup_limits(own, mounted)) == [5000, 7000]
