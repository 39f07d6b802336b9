"""What a runtime's runs are made with: kept, when it fails its canary, until no run uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sandbox_host.runtimes.base import RuntimeFailure

P = TypeVar("P")


@dataclass(eq=False)
class _Generation(Generic[P]):
    """What was found at one preflight, and the runs that use it."""

    provided: P
    runs: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Provisions(Generic[P]):
    """Holds what runs are made with, and closes it when it is retired and no run uses it.

    Args:
        close: releases what was provided; called once for each time it was retired.
    """

    def __init__(self, close: Callable[[P], Awaitable[None]]) -> None:
        self._close = close
        self._current: _Generation[P] | None = None
        self._closing: dict[asyncio.Task[None], _Generation[P]] = {}

    @property
    def current(self) -> P | None:
        """What new runs are made with; None before a preflight, and after a failed one."""
        return self._current.provided if self._current is not None else None

    def busy(self) -> bool:
        """Whether there is a run, even one that uses what is no longer current."""
        generations = [*self._closing.values(), *([self._current] if self._current else [])]
        return any(generation.runs for generation in generations)

    def provide(self, provided: P) -> None:
        """Make new runs with ``provided``, which may share parts with what was current."""
        if self._current is None:
            self._current = _Generation(provided)
        else:
            self._current.provided = provided

    @contextlib.contextmanager
    def for_a_run(self) -> Iterator[P]:
        """What a run is made with, kept for as long as the block takes.

        Raises:
            RuntimeFailure: there is nothing.
        """
        generation = self._current
        if generation is None:
            raise RuntimeFailure("preflight has not passed")
        generation.runs += 1
        generation.idle.clear()
        try:
            yield generation.provided
        finally:
            generation.runs -= 1
            if not generation.runs:
                generation.idle.set()

    async def retire(self) -> None:
        """Make no more runs with what is current; close it now, or after the last run."""
        generation, self._current = self._current, None
        if generation is None:
            return
        if not generation.runs:
            generation.idle.set()
        closing = asyncio.create_task(self._close_when_idle(generation))
        self._closing[closing] = generation
        closing.add_done_callback(self._closing.pop)
        if not generation.runs:
            await asyncio.shield(closing)

    async def _close_when_idle(self, generation: _Generation[P]) -> None:
        await generation.idle.wait()
        await self._close(generation.provided)

    async def aclose(self) -> None:
        """Close everything, whether runs still use it or not."""
        await self.retire()
        for generation in self._closing.values():
            generation.idle.set()
        await asyncio.gather(*self._closing)
