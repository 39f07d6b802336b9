"""What runs are made with is closed once, when it is retired and no run uses it."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.provisions import Provisions


class Closed(list[str]):
    """Notes what was closed."""

    async def note(self, provided: str) -> None:
        self.append(provided)


async def test_what_no_run_uses_is_closed_at_once() -> None:
    closed = Closed()
    provisions = Provisions(closed.note)
    provisions.provide("first")
    await provisions.retire()
    await provisions.retire()
    assert (closed, provisions.current) == (["first"], None)
    with pytest.raises(RuntimeFailure, match="preflight has not passed"), provisions.for_a_run():
        pass


async def test_a_run_keeps_what_it_began_with_until_its_end() -> None:
    closed = Closed()
    provisions = Provisions(closed.note)
    provisions.provide("first")
    with provisions.for_a_run() as provided:
        assert provisions.busy()
        await provisions.retire()
        assert (provided, provisions.busy(), closed) == ("first", True, [])
        provisions.provide("second")
        with provisions.for_a_run() as other:
            assert other == "second"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert closed == ["first"]


async def test_what_is_provided_again_is_the_same_generation() -> None:
    closed = Closed()
    provisions = Provisions(closed.note)
    provisions.provide("all languages")
    with provisions.for_a_run():
        provisions.provide("those that run")
        assert provisions.busy()
    await provisions.aclose()
    assert closed == ["those that run"]


async def test_the_end_of_the_host_waits_for_no_run() -> None:
    closed = Closed()
    provisions = Provisions(closed.note)
    provisions.provide("first")
    with provisions.for_a_run():
        await provisions.retire()
        provisions.provide("second")
        with provisions.for_a_run():
            await provisions.aclose()
    assert sorted(closed) == ["first", "second"]
