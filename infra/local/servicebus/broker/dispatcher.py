"""Delivers an entity's messages to waiting receivers, and acts on its deadlines."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from infra.local.servicebus.broker.entity import Clock, Entity, ignore_change
from infra.local.servicebus.broker.topic import Topic

#: Upper limit of a timer, in seconds, since the wall clock may jump (suspend, NTP).
_LONGEST_SLEEP = 60.0


class Receiver(Protocol):
    """A link that receives an entity's messages."""

    def ready(self) -> bool:
        """Whether it has credit and its connection can be written to."""

    def deliver(self) -> None:
        """Send the entity's next message."""


class Dispatcher:
    """Runs an entity or topic after changes, when receivers give credit, and at deadlines."""

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
        """Queue a receiver; it stays queued while it is ready."""
        if receiver not in self._members:
            self._members.add(receiver)
            self._waiting.append(receiver)
            self.notify()

    def forget(self, receiver: Receiver) -> None:
        """Remove a detached receiver from the queue."""
        if receiver in self._members:
            self._members.discard(receiver)
            self._waiting.remove(receiver)

    def notify(self) -> None:
        """Run in the next turn of the event loop, once for any number of changes."""
        if not self._run_scheduled:
            self._run_scheduled = True
            self._loop.call_soon(self._run)

    def close(self) -> None:
        """Stop reacting to changes and deadlines."""
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
        """Deliver to the receivers in turn, so that they share the messages."""
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
