"""The messages of one entity, indexed by sequence number, lock, status and deadline.

To make messages durable, one would store them in the five methods that change the table:
``insert``, ``remove``, ``move``, ``lock`` and ``extend_lock``.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator

from infra.local.servicebus.broker.deadlines import Deadlines, ReadyQueue
from infra.local.servicebus.broker.stored import Lock, Quota, Status, StoredMessage

_SLACK = 64


class MessageTable:
    """Holds messages; the rules for them are in `Entity`."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._messages: dict[int, StoredMessage] = {}
        self._order: list[int] = []
        self._ready = ReadyQueue()
        self._deadlines = Deadlines()
        self._locks: dict[uuid.UUID, StoredMessage] = {}
        self._counts: Counter[Status] = Counter()

    def get(self, sequence_number: int) -> StoredMessage | None:
        """The message with a sequence number."""
        return self._messages.get(sequence_number)

    def locked_by(self, token: uuid.UUID) -> StoredMessage | None:
        """The message that is locked with ``token``."""
        return self._locks.get(token)

    def ready_count(self) -> int:
        """How many messages are active."""
        return len(self._ready)

    def first_ready(self) -> StoredMessage | None:
        """The active message with the lowest sequence number."""
        sequence_number = self._ready.first()
        return None if sequence_number is None else self._messages[sequence_number]

    def from_number(self, first: int) -> Iterator[StoredMessage]:
        """All messages from a sequence number on, in order."""
        for index in range(bisect_left(self._order, first), len(self._order)):
            message = self._messages.get(self._order[index])
            if message is not None:
                yield message

    def all(self) -> list[StoredMessage]:
        """Every message."""
        return list(self._messages.values())

    def counts(self) -> dict[Status, int]:
        """How many messages are in each status."""
        return {status: self._counts[status] for status in Status}

    def next_deadline(self) -> int | None:
        """The earliest deadline, in ms since the epoch."""
        return self._deadlines.next()

    def pop_due(self, now: int) -> StoredMessage | None:
        """Return a message that is due, and remove its deadline."""
        sequence_number = self._deadlines.pop_due(now)
        return None if sequence_number is None else self._messages[sequence_number]

    def insert(self, message: StoredMessage, status: Status) -> None:
        """Add a message under its sequence number."""
        self.quota.used += Quota.cost(message.content)
        self._messages[message.sequence_number] = message
        if self._order and self._order[-1] > message.sequence_number:
            insort(self._order, message.sequence_number)
        else:
            self._order.append(message.sequence_number)
        self._counts[status] += 1
        self._enter(message, status)

    def remove(self, message: StoredMessage) -> None:
        """Remove a message."""
        self._leave(message)
        self._deadlines.set(message.sequence_number, None)
        del self._messages[message.sequence_number]
        self.quota.used -= Quota.cost(message.content)
        if len(self._order) > 2 * len(self._messages) + _SLACK:
            self._order = sorted(self._messages)

    def move(self, message: StoredMessage, status: Status) -> None:
        """Give a message another status; a lock on it is removed."""
        self._leave(message)
        self._counts[status] += 1
        self._enter(message, status)

    def lock(self, message: StoredMessage, until: int) -> None:
        """Lock a message with a new token."""
        self.move(message, Status.LOCKED)
        message.lock = Lock(uuid.uuid4(), until)
        self._locks[message.lock.token] = message
        self._deadlines.set(message.sequence_number, until)

    def extend_lock(self, token: uuid.UUID, until: int) -> None:
        """Move the end of a lock."""
        message = self._locks[token]
        message.lock = Lock(token, until)
        self._deadlines.set(message.sequence_number, until)

    def _leave(self, message: StoredMessage) -> None:
        self._counts[message.status] -= 1
        if message.status is Status.ACTIVE:
            self._ready.discard(message.sequence_number)
        if message.lock is not None:
            del self._locks[message.lock.token]
            message.lock = None

    def _enter(self, message: StoredMessage, status: Status) -> None:
        message.status = status
        if status is Status.ACTIVE:
            self._ready.add(message.sequence_number)
        waits = status in (Status.ACTIVE, Status.SCHEDULED)
        self._deadlines.set(message.sequence_number, message.due_at if waits else None)
