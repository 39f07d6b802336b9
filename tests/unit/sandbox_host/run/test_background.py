"""Work that is given up when an event is set."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from sandbox_host.run.background import unless_set


class EndlessWork:
    """Ends only when it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = False

    async def run(self) -> int:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled = True
        return 42


async def _answer() -> int:
    return 42


async def test_work_that_ends_first_gives_its_result() -> None:
    assert await unless_set(asyncio.Event(), _answer()) == 42


async def test_work_is_cancelled_when_the_event_is_set_first() -> None:
    event, work = asyncio.Event(), EndlessWork()
    waiting = asyncio.create_task(unless_set(event, work.run()))
    await work.begun.wait()
    event.set()
    assert await waiting is None
    assert work.cancelled


async def test_a_result_that_comes_in_spite_of_the_cancellation_is_not_lost() -> None:
    event, begun = asyncio.Event(), asyncio.Event()

    async def receive() -> str:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return "a message"

    waiting = asyncio.create_task(unless_set(event, receive()))
    await begun.wait()
    event.set()
    assert await waiting == "a message"


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await unless_set(asyncio.Event(), work())


async def test_work_is_cancelled_with_its_caller() -> None:
    work = EndlessWork()
    waiting = asyncio.create_task(unless_set(asyncio.Event(), work.run()))
    await work.begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.cancelled
