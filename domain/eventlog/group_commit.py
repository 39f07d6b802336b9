"""Group commit: with few callers each append has its own transaction; more callers share them."""

from __future__ import annotations

import asyncio
import copy
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg.errors import LockNotAvailable
from psycopg_pool import AsyncConnectionPool

from domain.eventlog import codec
from domain.eventlog.appending import Command, Undone, append_alone, append_together
from domain.eventlog.lanes import lane_of
from domain.eventlog.models import AppendResult

#: Up to so many callers gain nothing by sharing: each gets a transaction of its own, at once.
SEPARATE_CALLERS = 4

#: Concurrent transactions that more callers share: the server runs one while the next is prepared.
SHARED_TRANSACTIONS = 2

#: A transaction that takes longer gives up its slot, so that it holds up nobody in other lanes; and
#: so long others wait for a lane that it holds, as the database would let them. Seconds.
SLOW_SECONDS, LANE_SECONDS = 0.05, 2.0

#: Limits of a group; a larger command is a group of its own.
MAX_COMMANDS = 64
MAX_EVENTS = codec.MAX_EVENTS
MAX_CHARACTERS = codec.MAX_EVENT_BYTES


#: Of a command in a group: its result, the error of the whole group, or None: it was refused.
_Outcome = AppendResult | Exception | None


@dataclass(frozen=True, slots=True, eq=False)
class _Transaction:
    """One that is being carried out, since when, and the lanes that it holds."""

    began: float
    lanes: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A command whose caller waits for its outcome."""

    command: Command
    lane: int
    alone: bool
    since: float
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
        self._running: list[_Transaction] = []
        self._slots: list[_Transaction] = []  # those that are not slow, oldest first
        self._timer: asyncio.TimerHandle | None = None  # only while somebody waits
        self._queues: dict[str, deque[_Waiting]] = {}  # by stream, the next one to serve first
        self._groups: dict[asyncio.Task[None], list[_Waiting]] = {}

    async def append(self, command: Command) -> AppendResult:
        """Append ``command``; see `domain.eventlog.log.EventLog.append`."""
        self._callers += 1
        try:
            lane = lane_of(command.stream_id)
            free = self._has_slot() if self._has_few_callers() else not self._slots
            if free and not self._queues and lane not in self._held():
                return await self._alone(command, lane, takes_slot=True)
            outcome = await self._wait(command, lane)
            if outcome is None:
                return await append_alone(self._pool, command)
            if isinstance(outcome, Undone):
                if lane not in self._held():
                    return await self._alone(command, lane, takes_slot=False)
                outcome = await self._wait(command, lane, alone=True)
            if isinstance(outcome, Exception):
                raise copy.copy(outcome) from outcome
            assert outcome is not None
            return outcome
        finally:
            self._callers -= 1

    async def _alone(self, command: Command, lane: int, *, takes_slot: bool) -> AppendResult:
        transaction = self._begin([lane], takes_slot=takes_slot)
        try:
            return await append_alone(self._pool, command)
        finally:
            self._running.remove(transaction)
            self._release_slot(transaction)

    async def _wait(self, command: Command, lane: int, *, alone: bool = False) -> _Outcome:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(command, lane, alone, loop.time(), loop.create_future())
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

    def _has_few_callers(self) -> bool:
        return self._callers <= SEPARATE_CALLERS

    def _has_slot(self) -> bool:
        most = SEPARATE_CALLERS if self._has_few_callers() else SHARED_TRANSACTIONS
        return len(self._slots) < most

    def _held(self) -> set[int]:
        """The lanes that transactions of this process hold."""
        return set[int]().union(*(transaction.lanes for transaction in self._running))

    def _begin(self, lanes: Iterable[int], *, takes_slot: bool = True) -> _Transaction:
        transaction = _Transaction(asyncio.get_running_loop().time(), frozenset(lanes))
        self._running.append(transaction)
        if takes_slot:
            self._slots.append(transaction)
        return transaction

    def _release_slot(self, transaction: _Transaction) -> None:
        if transaction in self._slots:  # else it was slow, or had none
            self._slots.remove(transaction)
        self._serve()

    def _serve(self) -> None:
        while self._has_slot() and (group := self._next_group()):
            transaction = self._begin(waiting.lane for waiting in group)
            task = asyncio.create_task(self._carry_out(group, transaction))
            self._groups[task] = group
            task.add_done_callback(self._groups.pop)

    def _watch(self) -> None:
        """Make sure that no slot is waited for longer than `SLOW_SECONDS`."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            began = self._slots[0].began if self._slots else loop.time()
            self._timer = loop.call_at(began + SLOW_SECONDS, self._release_slow)

    def _release_slow(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        self._slots = [each for each in self._slots if each.began > now - SLOW_SECONDS]
        self._refuse(now - LANE_SECONDS)
        self._serve()
        if self._queues:
            self._watch()

    def _refuse(self, until: float) -> None:
        """Refuse what has waited since then for a lane that a transaction has held since then."""
        lanes = set[int]().union(*(each.lanes for each in self._running if each.began <= until))
        for stream_id, queue in list(self._queues.items()):
            while queue and queue[0].lane in lanes and queue[0].since <= until:
                waiting = queue.popleft()
                if not waiting.outcome.done():
                    reason = "waited for a lane that a slow transaction of this process holds"
                    waiting.outcome.set_exception(LockNotAvailable(reason))
            if not queue:
                del self._queues[stream_id]

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        events = characters = 0
        # An equal share: two transactions with eight commands are faster than one with 14 and one
        # with 2.
        share = min(MAX_COMMANDS, math.ceil(self._callers / SHARED_TRANSACTIONS))
        # What lies in a lane that another transaction holds would wait for that, with a connection,
        # and the group with it. And a group has one command for each lane.
        held = self._held()
        for queue in self._queues.values():
            first = queue[0]
            if first.lane in held or (first.alone and group):
                continue
            events += len(first.command.events)
            characters += first.characters
            if group and (events > MAX_EVENTS or characters > MAX_CHARACTERS):
                break
            group.append(first)
            held.add(first.lane)
            if first.alone or len(group) == share:
                break
        if self._slots and 2 * len(group) < share and not any(first.alone for first in group):
            return []  # more will have come when the other transaction ends
        for first in group:
            queue = self._queues.pop(first.command.stream_id)
            queue.popleft()
            if queue:
                self._queues[first.command.stream_id] = queue  # at the end: streams take turns
        return group

    async def _carry_out(self, group: Sequence[_Waiting], transaction: _Transaction) -> None:
        outcomes: Sequence[_Outcome]
        commands = [waiting.command for waiting in group]
        try:
            try:
                if group[0].alone:
                    outcomes = [await append_alone(self._pool, commands[0])]
                else:
                    outcomes = await append_together(self._pool, commands)
            except Exception as error:  # noqa: BLE001 - raised again by each caller
                outcomes = [error] * len(group)
            except asyncio.CancelledError:
                for waiting in group:
                    waiting.outcome.cancel()
                raise
            finally:
                self._running.remove(transaction)
            for waiting, outcome in zip(group, outcomes, strict=True):
                if waiting.outcome.done():
                    continue  # its caller was cancelled
                if waiting.alone and isinstance(outcome, Exception):
                    waiting.outcome.set_exception(outcome)
                else:
                    waiting.outcome.set_result(outcome)
            # Let these callers append again before the next group is formed.
            await asyncio.sleep(0)
        finally:
            self._release_slot(transaction)
