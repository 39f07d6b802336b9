"""Group commit: with few callers each append has its own transaction; more callers share them."""

from __future__ import annotations

import asyncio
import copy
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg_pool import AsyncConnectionPool

from domain.eventlog import codec
from domain.eventlog.appending import Command, append_alone, append_together
from domain.eventlog.lanes import lane_of
from domain.eventlog.models import AppendResult

#: Up to so many callers gain nothing by sharing: each gets a transaction of its own, at once.
SEPARATE_CALLERS = 4

#: Concurrent transactions that more callers share: the server runs one while the next is prepared.
SHARED_TRANSACTIONS = 2

#: A transaction that takes longer gives up its slot, so that it holds up nobody. Seconds.
SLOW_SECONDS = 0.05

#: Limits of a group; a larger command is a group of its own.
MAX_COMMANDS = 64
MAX_EVENTS = codec.MAX_EVENTS
MAX_CHARACTERS = codec.MAX_EVENT_BYTES


#: Of a command in a group: its result, the error of the whole group, or None: to be done alone.
_Outcome = AppendResult | Exception | None


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """A transaction that is being carried out, since when, and the lanes that it holds."""

    began: float
    lanes: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A command whose caller waits for its outcome."""

    command: Command
    lane: int
    outcome: asyncio.Future[_Outcome]

    @property
    def characters(self) -> int:
        data = sum(len(event.data) for event in self.command.events)
        return len(self.command.metadata) + data


class GroupCommit:
    """Carries out the appends of a process over a pool, in the pool's event loop."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._callers = 0
        self._slots: list[_Slot] = []  # oldest first
        self._timer: asyncio.TimerHandle | None = None  # only while somebody waits
        self._queues: dict[str, deque[_Waiting]] = {}  # by stream, the next one to serve first
        self._groups: dict[asyncio.Task[None], list[_Waiting]] = {}

    async def append(self, command: Command) -> AppendResult:
        """Append ``command``; see `domain.eventlog.log.EventLog.append`."""
        self._callers += 1
        try:
            lane = lane_of(command.stream_id)
            if self._has_slot() and not self._queues:
                slot = self._take_slot({lane})
                try:
                    return await append_alone(self._pool, command)
                finally:
                    self._release_slot(slot)
            outcome = await self._wait(command, lane)
            if isinstance(outcome, Exception):
                raise copy.copy(outcome) from outcome
            return outcome or await append_alone(self._pool, command)
        finally:
            self._callers -= 1

    async def _wait(self, command: Command, lane: int) -> _Outcome:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(command, lane, loop.create_future())
        self._queues.setdefault(command.stream_id, deque()).append(waiting)
        if self._has_slot():  # others wait for lanes; whoever comes at the same time comes along
            loop.call_soon(self._serve)
        self._watch()
        try:
            return await waiting.outcome
        except asyncio.CancelledError:
            await self._leave(waiting)
            raise

    async def _leave(self, waiting: _Waiting) -> None:
        """Drop a command whose caller was cancelled, unless its group has other commands."""
        queue = self._queues.get(waiting.command.stream_id)
        if queue is not None and waiting in queue:
            queue.remove(waiting)
            if not queue:
                del self._queues[waiting.command.stream_id]
            return
        for task, group in self._groups.items():
            if waiting in group and all(member.outcome.done() for member in group):
                task.cancel()
                await asyncio.wait({task})
                return

    def _has_slot(self) -> bool:
        few = self._callers <= SEPARATE_CALLERS
        return len(self._slots) < (SEPARATE_CALLERS if few else SHARED_TRANSACTIONS)

    def _take_slot(self, lanes: Iterable[int]) -> _Slot:
        slot = _Slot(asyncio.get_running_loop().time(), frozenset(lanes))
        self._slots.append(slot)
        return slot

    def _release_slot(self, slot: _Slot) -> None:
        if slot in self._slots:  # else it was slow and is released already
            self._slots.remove(slot)
            self._serve()

    def _serve(self) -> None:
        while self._has_slot() and (group := self._next_group()):
            slot = self._take_slot(waiting.lane for waiting in group)
            task = asyncio.create_task(self._carry_out(group, slot))
            self._groups[task] = group
            task.add_done_callback(self._groups.pop)

    def _watch(self) -> None:
        """Make sure that no slot is waited for longer than `SLOW_SECONDS`."""
        if self._timer is None:
            until = self._slots[0].began + SLOW_SECONDS
            self._timer = asyncio.get_running_loop().call_at(until, self._release_slow)

    def _release_slow(self) -> None:
        self._timer = None
        late = asyncio.get_running_loop().time() - SLOW_SECONDS
        self._slots = [slot for slot in self._slots if slot.began > late]
        self._serve()
        if self._queues:
            self._watch()

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        events = characters = 0
        # An equal share: two transactions with eight commands are faster than one with 14 and one
        # with 2.
        share = min(MAX_COMMANDS, math.ceil(self._callers / SHARED_TRANSACTIONS))
        # What lies in a lane that another transaction holds would wait for that, and the group with
        # it. And a group has one command for each lane.
        held = set[int]().union(*(slot.lanes for slot in self._slots))
        for stream_id, queue in list(self._queues.items()):
            if len(group) == share:
                break
            first = queue[0]
            if first.lane in held:
                continue
            events += len(first.command.events)
            characters += first.characters
            if group and (events > MAX_EVENTS or characters > MAX_CHARACTERS):
                break
            group.append(queue.popleft())
            held.add(first.lane)
            del self._queues[stream_id]
            if queue:
                self._queues[stream_id] = queue  # at the end: streams take turns
        return group

    async def _carry_out(self, group: Sequence[_Waiting], slot: _Slot) -> None:
        outcomes: Sequence[_Outcome]
        try:
            try:
                outcomes = await append_together(self._pool, [waiting.command for waiting in group])
            except Exception as error:  # noqa: BLE001 - raised again by each caller
                outcomes = [error] * len(group)
            except asyncio.CancelledError:
                for waiting in group:
                    waiting.outcome.cancel()
                raise
            for waiting, outcome in zip(group, outcomes, strict=True):
                if not waiting.outcome.done():  # its caller was cancelled
                    waiting.outcome.set_result(outcome)
            # Let these callers append again before the next group is formed.
            await asyncio.sleep(0)
        finally:
            self._release_slot(slot)
