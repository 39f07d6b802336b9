"""Boxes that wait for jobs, made ahead of them and used once.

It knows nothing of what a box is. A job takes one that waits, or the next one made; the pool makes
new ones in the background, few at a time, as many as recent demand and its budget of memory say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.pool.demand import Demand, share

log = logging.getLogger(__name__)

#: Boxes made at once ahead of need: while jobs run, and while none does.
_MAKING_BESIDE_JOBS = 1
_MAKING_AT_REST = 2

#: Seconds for which a new box is put off while others wait: most jobs have ended then, and their
#: results are on the way.
_PUT_OFF_SECONDS = 0.1

#: Seconds between looks at a demand that fades; and between attempts after a failed one.
_LOOK_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

#: Assumed until the first box has been made and measured.
_GUESSED_SECONDS = 0.5
_GUESSED_BYTES = 24 * 1024**2


class Box(Protocol):
    """What the pool must know of a box."""

    async def broken(self) -> None:
        """Return when the box can no longer take a job."""
        ...

    def cost_bytes(self) -> int | None:
        """Memory that it takes while it waits; None where that cannot be measured."""
        ...


B = TypeVar("B", bound=Box)


@dataclass
class _Shelf(Generic[B]):
    """One language's boxes."""

    demand: Demand
    waiting: dict[B, asyncio.Task[None]] = field(default_factory=dict)
    hoping: deque[asyncio.Future[B]] = field(default_factory=deque)
    making: int = 0
    pause: float = _FIRST_PAUSE
    rest_until: float = 0.0
    lacking_since: float | None = None
    target: int = 0
    served: int = 0
    missed: int = 0
    broken: int = 0


class BoxPool(Generic[B]):
    """See the module.

    Args:
        languages: those to keep boxes for.
        make: a new box for a language, ready for its job.
        discard: lets a box go that no job has used; returns at once.
        budget_bytes: memory of all boxes that wait or are being made; 0 keeps none waiting.
        on_trouble: called when a box cannot be made and no job is there to be told.
        least: boxes of each language that wait without demand.
    """

    def __init__(
        self,
        languages: Iterable[str],
        make: Callable[[str], Awaitable[B]],
        discard: Callable[[B], None],
        budget_bytes: int,
        on_trouble: Callable[[], None],
        least: int = 1,
    ) -> None:
        self._shelves: dict[str, _Shelf[B]] = {name: _Shelf(Demand(least)) for name in languages}
        self._make = make
        self._discard = discard
        self._budget = budget_bytes
        self._on_trouble = on_trouble
        self._box_bytes = _GUESSED_BYTES
        self._make_seconds = _GUESSED_SECONDS
        self._in_use = 0
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tending: asyncio.Task[None] | None = None
        self._closed = False
        self._error: str | None = None

    def start(self) -> None:
        """Begin to make boxes, on the running loop; it may have begun already."""
        if self._tending is None:
            self._tending = asyncio.create_task(self._tend())

    async def take(self, language: str) -> tuple[B, bool]:
        """A box for one job, and whether it was waiting; `done` must be called after the job.

        Raises:
            RuntimeFailure: the box this job would have had cannot be made.
        """
        shelf = self._shelves[language]
        shelf.demand.arrived(time.monotonic())
        self._in_use += 1
        try:
            if shelf.waiting:
                box = next(iter(shelf.waiting))
                shelf.waiting.pop(box).cancel()
                shelf.served += 1
                return box, True
            shelf.missed += 1
            return await self._hope(language, shelf), False
        except BaseException:
            self.done()
            raise
        finally:
            self._wake.set()

    def done(self) -> None:
        """A job that took a box has ended."""
        self._in_use -= 1
        self._wake.set()

    async def _hope(self, language: str, shelf: _Shelf[B]) -> B:
        """The next box made, of which there are at least as many as jobs that wait for one."""
        hope: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        shelf.hoping.append(hope)
        if shelf.making < len(shelf.hoping):
            self._begin(language, shelf)
        try:
            return await hope
        except asyncio.CancelledError:
            if hope.done() and not hope.cancelled() and hope.exception() is None:
                self._discard(hope.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                shelf.hoping.remove(hope)

    def state(self) -> dict[str, object]:
        """For ``/health``."""
        return {
            "budget_bytes": self._budget,
            "box_bytes": self._box_bytes,
            "make_ms": round(self._make_seconds * 1e3),
            "last_error": self._error,
            "languages": {
                name: {
                    "waiting": len(shelf.waiting),
                    "making": shelf.making,
                    "target": shelf.target,
                    "served": shelf.served,
                    "missed": shelf.missed,
                    "broken": shelf.broken,
                }
                for name, shelf in self._shelves.items()
            },
        }

    async def aclose(self) -> None:
        """Make no more, and discard what waits; boxes under way are waited for."""
        self._closed = True
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for shelf in self._shelves.values():
            self._shrink(shelf, 0)

    async def _tend(self) -> None:
        while True:
            self._wake.clear()
            put_off = self._plan()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PUT_OFF_SECONDS if put_off else _LOOK_SECONDS):
                    await self._wake.wait()

    def _plan(self) -> bool:
        """Bring every shelf nearer to what it should hold; whether a box was put off."""
        now = time.monotonic()
        wanted = {
            name: shelf.demand.wanted(now, self._make_seconds)
            for name, shelf in self._shelves.items()
        }
        shares = share(wanted, self._budget // max(1, self._box_bytes))
        for name, shelf in self._shelves.items():
            shelf.target = shares[name]
            self._shrink(shelf, shelf.target)
        allowed = _MAKING_BESIDE_JOBS if self._in_use else _MAKING_AT_REST
        put_off = False
        for name in sorted(self._shelves, key=lambda name: len(self._shelves[name].waiting)):
            shelf = self._shelves[name]
            if self._may_be_put_off(shelf, now):
                put_off = True
                continue
            while now >= shelf.rest_until and self._making() < allowed and self._lacks(shelf):
                self._begin(name, shelf)
        return put_off

    def _may_be_put_off(self, shelf: _Shelf[B], now: float) -> bool:
        if not self._lacks(shelf):
            shelf.lacking_since = None
            return False
        if shelf.lacking_since is None:
            shelf.lacking_since = now
        recent = now - shelf.lacking_since < _PUT_OFF_SECONDS
        return bool(shelf.waiting and recent)

    def _making(self) -> int:
        return sum(shelf.making for shelf in self._shelves.values())

    @staticmethod
    def _lacks(shelf: _Shelf[B]) -> bool:
        return len(shelf.waiting) + shelf.making - len(shelf.hoping) < shelf.target

    def _shrink(self, shelf: _Shelf[B], size: int) -> None:
        while len(shelf.waiting) > size:
            box, watching = shelf.waiting.popitem()
            watching.cancel()
            self._discard(box)

    def _begin(self, language: str, shelf: _Shelf[B]) -> None:
        shelf.making += 1
        task = asyncio.create_task(self._make_one(language, shelf))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_one(self, language: str, shelf: _Shelf[B]) -> None:
        began = time.monotonic()
        try:
            box = await self._make(language)
        except RuntimeFailure as error:
            self._failed(language, shelf, error)
            return
        except BaseException as error:
            self._failed(language, shelf, error)
            raise
        finally:
            shelf.making -= 1
            self._wake.set()
        shelf.pause, shelf.rest_until, self._error = _FIRST_PAUSE, 0.0, None
        self._make_seconds += 0.2 * (time.monotonic() - began - self._make_seconds)
        self._box_bytes = box.cost_bytes() or self._box_bytes
        self._shelve(shelf, box)

    def _failed(self, language: str, shelf: _Shelf[B], error: BaseException) -> None:
        """Tell the job that would have had the box; make none of its kind ahead for a while."""
        self._error = str(error)
        shelf.rest_until = time.monotonic() + shelf.pause
        shelf.pause = min(2 * shelf.pause, _LONGEST_PAUSE)
        hope = self._first_hope(shelf)
        if hope is not None:
            hope.set_exception(error)
        else:
            log.warning("no box for %s could be made ahead: %s", language, error)
            self._on_trouble()

    def _shelve(self, shelf: _Shelf[B], box: B) -> None:
        hope = self._first_hope(shelf)
        if hope is not None:
            hope.set_result(box)
        elif self._closed:
            self._discard(box)
        else:
            shelf.waiting[box] = asyncio.create_task(self._watch(shelf, box))

    @staticmethod
    def _first_hope(shelf: _Shelf[B]) -> asyncio.Future[B] | None:
        while shelf.hoping:
            hope = shelf.hoping.popleft()
            if not hope.done():
                return hope
        return None

    async def _watch(self, shelf: _Shelf[B], box: B) -> None:
        await box.broken()
        del shelf.waiting[box]
        shelf.broken += 1
        self._discard(box)
        self._wake.set()
