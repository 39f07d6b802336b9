"""Brings an entity's messages to waiting receivers, and wakes it at its next deadline."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from infra.local.servicebus.broker.entity import Clock, Entity, ignore_change
from infra.local.servicebus.broker.topic import Topic

#: Wall clocks jump (suspend, NTP); no timer sleeps longer than this, in seconds.
_LONGEST_SLEEP = 60.0


class Receiver(Protocol):
    """A link that takes messages of one entity."""

    def ready(self) -> bool:
        """Whether it has credit and its connection takes data."""

    def deliver(self) -> None:
        """Take the next message of the entity."""


class Dispatcher:
    """The one wake-up of an entity or topic: after a change, on credit, and at deadlines."""

    def __init__(self, node: Entity | Topic, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Receiver] = deque()
        self._members: set[Receiver] = set()
        self._run_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline = 0
        node.on_change = self.notify

    def request(self, receiver: Receiver) -> None:
        """Put a receiver in line; it stays there while it is ready."""
        if receiver not in self._members:
            self._members.add(receiver)
            self._waiting.append(receiver)
            self.notify()

    def forget(self, receiver: Receiver) -> None:
        """Take a detached receiver out of the line."""
        if receiver in self._members:
            self._members.discard(receiver)
            self._waiting.remove(receiver)

    def notify(self) -> None:
        """Run soon, once for any number of changes."""
        if not self._run_scheduled:
            self._run_scheduled = True
            self._loop.call_soon(self._run)

    def close(self) -> None:
        """Stop the timer."""
        self._node.on_change = ignore_change
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        self._run_scheduled = False
        if isinstance(self._node, Topic):
            self._node.advance()
        else:
            self._deliver(self._node)
        self._arm()

    def _deliver(self, entity: Entity) -> None:
        """Hand out messages in turn, so that competing receivers share them."""
        while entity.has_ready() and self._waiting:
            receiver = self._waiting.popleft()
            if receiver.ready():
                receiver.deliver()
                self._waiting.append(receiver)
            else:
                self._members.discard(receiver)

    def _arm(self) -> None:
        deadline = self._node.next_deadline()
        if self._timer is not None:
            if deadline is not None and self._timer_deadline <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer_deadline = deadline
            delay = max((deadline - self._clock()) / 1000, 0.0)
            self._timer = self._loop.call_later(min(delay, _LONGEST_SLEEP), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._run()
