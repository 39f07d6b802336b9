"""A pool of boxes that are made ahead of jobs and used once.

The pool does not depend on what a box is. A job takes a waiting box, or the next one made. The pool
makes new ones in the background, few at a time; recent demand and its memory budget say how many.
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

#: Boxes made at the same time ahead of jobs: while jobs run, and while none runs.
_MAKING_BESIDE_JOBS = 1
_MAKING_AT_REST = 2

#: Seconds by which making a box is deferred while others wait: by then most jobs have ended and
#: their results are being sent.
_DEFERRED_SECONDS = 0.1

#: Seconds between checks of the decaying demand; seconds between attempts after failures.
_LOOK_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

#: Assumed until the first box has been made and measured.
_GUESSED_SECONDS = 0.5
_GUESSED_BYTES = 24 * 1024**2


class Box(Protocol):
    """What the pool needs of a box."""

    async def broken(self) -> None:
        """Return when the box can no longer take a job."""
        ...

    def cost_bytes(self) -> int | None:
        """Memory that it takes while it waits; None if that cannot be measured."""
        ...


B = TypeVar("B", bound=Box)


@dataclass
class _Queue(Generic[B]):
    """One language's waiting boxes, and the jobs that wait for one."""

    demand: Demand
    waiting: dict[B, asyncio.Task[None]] = field(default_factory=dict)
    waiters: deque[asyncio.Future[B]] = field(default_factory=deque)
    making: int = 0
    pause: float = _FIRST_PAUSE
    rest_until: float = 0.0
    short_since: float | None = None
    target: int = 0
    served: int = 0
    missed: int = 0
    broken: int = 0


class BoxPool(Generic[B]):
    """See the module.

    Args:
        languages: those to keep boxes for.
        make: makes a box for a language, ready for its job.
        discard: removes a box that no job has used; returns at once.
        budget_bytes: memory of all boxes that wait or are being made; 0 keeps none waiting.
        on_trouble: called when a box cannot be made and no job waits for it.
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
        self._queues: dict[str, _Queue[B]] = {name: _Queue(Demand(least)) for name in languages}
        self._make = make
        self._discard = discard
        self._budget = budget_bytes
        self._on_trouble = on_trouble
        self._box_bytes = _GUESSED_BYTES
        self._make_seconds = _GUESSED_SECONDS
        self._in_use = 0
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._replenishing: asyncio.Task[None] | None = None
        self._closed = False
        self._error: str | None = None

    def start(self) -> None:
        """Start to make boxes, on the running loop; does nothing if it has started already."""
        if self._replenishing is None:
            self._replenishing = asyncio.create_task(self._replenish())

    async def take(self, language: str) -> tuple[B, bool]:
        """Take a box for one job; also whether it was waiting. Call `done` after the job.

        Raises:
            RuntimeFailure: the box for this job cannot be made.
        """
        queue = self._queues[language]
        queue.demand.arrived(time.monotonic())
        self._in_use += 1
        try:
            if queue.waiting:
                box = next(iter(queue.waiting))
                queue.waiting.pop(box).cancel()
                queue.served += 1
                return box, True
            queue.missed += 1
            return await self._wait_for_box(language, queue), False
        except BaseException:
            self.done()
            raise
        finally:
            self._wake.set()

    def done(self) -> None:
        """Note that a job which took a box has ended."""
        self._in_use -= 1
        self._wake.set()

    async def _wait_for_box(self, language: str, queue: _Queue[B]) -> B:
        """The next box made; as many are being made as jobs wait for one."""
        waiter: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        queue.waiters.append(waiter)
        if queue.making < len(queue.waiters):
            self._begin(language, queue)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._discard(waiter.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                queue.waiters.remove(waiter)

    def state(self) -> dict[str, object]:
        """For ``/health``."""
        return {
            "budget_bytes": self._budget,
            "box_bytes": self._box_bytes,
            "make_ms": round(self._make_seconds * 1e3),
            "last_error": self._error,
            "languages": {
                name: {
                    "waiting": len(queue.waiting),
                    "making": queue.making,
                    "target": queue.target,
                    "served": queue.served,
                    "missed": queue.missed,
                    "broken": queue.broken,
                }
                for name, queue in self._queues.items()
            },
        }

    async def aclose(self) -> None:
        """Make no more boxes, wait for those being made, and discard all that wait."""
        self._closed = True
        if self._replenishing is not None:
            self._replenishing.cancel()
            await asyncio.gather(self._replenishing, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in self._queues.values():
            self._shrink(queue, 0)

    async def _replenish(self) -> None:
        while True:
            self._wake.clear()
            deferred = self._plan()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DEFERRED_SECONDS if deferred else _LOOK_SECONDS):
                    await self._wake.wait()

    def _plan(self) -> bool:
        """Bring every queue nearer to its target; whether making a box was deferred."""
        now = time.monotonic()
        wanted = {
            name: queue.demand.wanted(now, self._make_seconds)
            for name, queue in self._queues.items()
        }
        shares = share(wanted, self._budget // max(1, self._box_bytes))
        for name, queue in self._queues.items():
            queue.target = shares[name]
            self._shrink(queue, queue.target)
        allowed = _MAKING_BESIDE_JOBS if self._in_use else _MAKING_AT_REST
        deferred = False
        for name in sorted(self._queues, key=lambda name: len(self._queues[name].waiting)):
            queue = self._queues[name]
            if self._may_be_deferred(queue, now):
                deferred = True
                continue
            while now >= queue.rest_until and self._making() < allowed and self._is_short(queue):
                self._begin(name, queue)
        return deferred

    def _may_be_deferred(self, queue: _Queue[B], now: float) -> bool:
        if not self._is_short(queue):
            queue.short_since = None
            return False
        if queue.short_since is None:
            queue.short_since = now
        recent = now - queue.short_since < _DEFERRED_SECONDS
        return bool(queue.waiting and recent)

    def _making(self) -> int:
        return sum(queue.making for queue in self._queues.values())

    @staticmethod
    def _is_short(queue: _Queue[B]) -> bool:
        return len(queue.waiting) + queue.making - len(queue.waiters) < queue.target

    def _shrink(self, queue: _Queue[B], size: int) -> None:
        while len(queue.waiting) > size:
            box, watching = queue.waiting.popitem()
            watching.cancel()
            self._discard(box)

    def _begin(self, language: str, queue: _Queue[B]) -> None:
        queue.making += 1
        task = asyncio.create_task(self._make_one(language, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_one(self, language: str, queue: _Queue[B]) -> None:
        began = time.monotonic()
        try:
            box = await self._make(language)
        except RuntimeFailure as error:
            self._failed(language, queue, error)
            return
        except BaseException as error:
            self._failed(language, queue, error)
            raise
        finally:
            queue.making -= 1
            self._wake.set()
        queue.pause, queue.rest_until, self._error = _FIRST_PAUSE, 0.0, None
        self._make_seconds += 0.2 * (time.monotonic() - began - self._make_seconds)
        self._box_bytes = box.cost_bytes() or self._box_bytes
        self._hand_over(queue, box)

    def _failed(self, language: str, queue: _Queue[B], error: BaseException) -> None:
        """Fail the job that waits for the box; make none of its language ahead for a while."""
        self._error = str(error)
        queue.rest_until = time.monotonic() + queue.pause
        queue.pause = min(2 * queue.pause, _LONGEST_PAUSE)
        waiter = self._first_waiter(queue)
        if waiter is not None:
            waiter.set_exception(error)
        else:
            log.warning("no box for %s could be made ahead: %s", language, error)
            self._on_trouble()

    def _hand_over(self, queue: _Queue[B], box: B) -> None:
        waiter = self._first_waiter(queue)
        if waiter is not None:
            waiter.set_result(box)
        elif self._closed:
            self._discard(box)
        else:
            queue.waiting[box] = asyncio.create_task(self._watch(queue, box))

    @staticmethod
    def _first_waiter(queue: _Queue[B]) -> asyncio.Future[B] | None:
        while queue.waiters:
            waiter = queue.waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _watch(self, queue: _Queue[B], box: B) -> None:
        await box.broken()
        del queue.waiting[box]
        queue.broken += 1
        self._discard(box)
        self._wake.set()
