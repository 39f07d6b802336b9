"""A queue, a subscription or a dead-letter queue, without protocol and event loop.

Every public method first applies what is due (expired locks, scheduled messages, time to live), so
a late timer has no effect. Times are milliseconds since the epoch, from a clock that is passed in.

Source of the behaviour: Service Bus documentation, "Message transfers, locks, and settlement",
"Message expiration", "Message sequencing and timestamps", "Overview of dead-letter queues".
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence

from infra.local.servicebus.broker.message_table import MessageTable
from infra.local.servicebus.broker.messages import NO_ENTRIES, Content, Entries
from infra.local.servicebus.broker.render import with_dead_letter, with_properties
from infra.local.servicebus.broker.stored import (
    EntitySettings,
    Quota,
    SequenceNumbers,
    Status,
    StoredMessage,
)
from infra.local.servicebus.errors import LockLost, MessageNotFound, NotAllowed

Clock = Callable[[], int]


def ignore_change() -> None:
    """The ``on_change`` of an entity or topic that no dispatcher serves."""


class Entity:
    """Messages in order of their sequence numbers, some of them locked.

    Args:
        path: its name in answers, for example ``q`` or ``t/Subscriptions/s``.
        dead_letters: its dead-letter queue; None if it is one itself.

    Attributes:
        on_change: called after each change that may matter to a waiting receiver or a timer.
    """

    def __init__(
        self,
        path: str,
        settings: EntitySettings,
        clock: Clock,
        quota: Quota,
        sequence_numbers: SequenceNumbers,
        dead_letters: Entity | None = None,
    ) -> None:
        self.path = path
        self.settings = settings
        self.dead_letters = dead_letters
        self.quota = quota
        self.on_change: Callable[[], None] = ignore_change
        self._clock = clock
        self._sequence_numbers = sequence_numbers
        self._table = MessageTable(quota)

    def enqueue(self, contents: Sequence[Content]) -> list[int]:
        """Store all of ``contents`` or none; those for a time in the future are scheduled.

        Returns:
            Their sequence numbers.

        Raises:
            QuotaExceeded: the entity is full.
        """
        now = self.advance()
        self.quota.require(sum(map(Quota.cost, contents)))
        numbers = [self._admit(StoredMessage(content), now) for content in contents]
        self.on_change()
        return numbers

    def publish(self, content: Content, topic_sequence_number: int) -> None:
        """Store a message of a topic, which has checked the quota."""
        now = self.advance()
        self._admit(StoredMessage(content, topic_sequence_number=topic_sequence_number), now)
        self.on_change()

    def cancel_scheduled(self, sequence_numbers: Sequence[int]) -> None:
        """Delete scheduled messages, all or none.

        Raises:
            MessageNotFound: one is unknown, or has been enqueued already.
        """
        self.advance()
        for message in self._require(sequence_numbers, Status.SCHEDULED):
            self._table.remove(message)
        self.on_change()

    def has_ready(self) -> bool:
        """Whether ``acquire`` would find a message."""
        self.advance()
        return self._table.ready_count() > 0

    def acquire(self) -> StoredMessage | None:
        """Lock and return the first active message."""
        now = self.advance()
        message = self._table.first_ready()
        if message is not None:
            self._table.lock(message, now + self.settings.lock_duration_ms)
        return message

    def take(self) -> StoredMessage | None:
        """Remove and return the first active message: receive-and-delete."""
        self.advance()
        message = self._table.first_ready()
        if message is not None:
            self._table.remove(message)
        return message

    def complete(self, token: uuid.UUID) -> None:
        """Remove a locked message. Raises LockLost."""
        self._table.remove(self._locked(token))

    def release(
        self, token: uuid.UUID, delivery_failed: bool, changes: Entries = NO_ENTRIES
    ) -> None:
        """Unlock a message; ``delivery_failed`` raises its delivery count, as an abandon does.

        Raises:
            LockLost: nothing is changed.
            MessageTooLarge: because of the application properties ``changes``; nothing is changed.
        """
        message = self._locked(token)
        self._change(message, changes)
        self._unlock(message, delivery_failed)
        self.on_change()

    def defer(self, token: uuid.UUID, changes: Entries = NO_ENTRIES) -> None:
        """Defer a locked message: from now on it is received only by its sequence number.

        Raises:
            LockLost, MessageTooLarge: as `release`.
        """
        message = self._locked(token)
        self._change(message, changes)
        message.delivery_count += 1
        message.deferred = True
        self._table.move(message, Status.DEFERRED)

    def dead_letter(
        self,
        token: uuid.UUID,
        reason: str | None,
        description: str | None,
        changes: Entries = NO_ENTRIES,
    ) -> None:
        """Move a locked message to the dead-letter queue.

        Raises:
            LockLost, MessageTooLarge: as `release`.
            NotAllowed: this is a dead-letter queue.
        """
        message = self._locked(token)
        if self.dead_letters is None:
            raise NotAllowed(f"{self.path} is a dead-letter queue already")
        self._change(message, changes)
        self._move_to_dead_letters(message, reason, description)

    def renew(self, tokens: Sequence[uuid.UUID]) -> list[int]:
        """Renew locks, all or none. Returns their new ends. Raises LockLost."""
        now = self.advance()
        for token in tokens:
            self._find(token)
        until = now + self.settings.lock_duration_ms
        for token in tokens:
            self._table.extend_lock(token, until)
        self.on_change()
        return [until] * len(tokens)

    def receive_deferred(
        self, sequence_numbers: Sequence[int], delete: bool
    ) -> list[StoredMessage]:
        """Lock (or remove) deferred messages, all or none.

        Raises:
            MessageNotFound: one is unknown, expired, not deferred, or locked.
        """
        now = self.advance()
        messages = self._require(sequence_numbers, Status.DEFERRED)
        # Deferred messages expire only when they are received.
        expired = [m for m in messages if m.expires_at is not None and m.expires_at <= now]
        for message in expired:
            self._expire(message)
        if expired:
            raise MessageNotFound(f"a deferred message of {self.path} has expired")
        for message in messages:
            if delete:
                self._table.remove(message)
            else:
                self._table.lock(message, now + self.settings.lock_duration_ms)
        self.on_change()
        return messages

    def browse(self, first: int) -> Iterator[StoredMessage]:
        """All messages from sequence number ``first`` on, in any state."""
        self.advance()
        return self._table.from_number(first)

    def is_locked(self, token: uuid.UUID) -> bool:
        """Whether a lock is still valid."""
        self.advance()
        return self._table.locked_by(token) is not None

    def next_deadline(self) -> int | None:
        """When the next lock or message is due, in ms since the epoch."""
        return self._table.next_deadline()

    def counts(self) -> dict[Status, int]:
        """How many messages are in each status."""
        self.advance()
        return self._table.counts()

    def clear(self) -> None:
        """Delete all messages; their locks are lost."""
        for message in self._table.all():
            self._table.remove(message)
        self.on_change()

    def advance(self) -> int:
        """Apply what is due. Returns the current time in ms since the epoch."""
        now = self._clock()
        while (message := self._table.pop_due(now)) is not None:
            if message.status is Status.LOCKED:
                self._unlock(message, delivery_failed=True)
            elif message.status is Status.SCHEDULED:
                # It is enqueued as if it were sent now, with a new sequence number.
                self._table.remove(message)
                self._activate(message, now)
            else:
                self._expire(message)
        return now

    def _admit(self, message: StoredMessage, now: int) -> int:
        when = message.content.scheduled_for
        if when is not None and when > now:
            message.due_at = when
            self._store(message, Status.SCHEDULED, now)
        else:
            self._activate(message, now)
        return message.sequence_number

    def _activate(self, message: StoredMessage, now: int) -> None:
        ttl = min(
            (t for t in (message.content.ttl_ms, self.settings.default_ttl_ms) if t is not None),
            default=None,
        )
        message.ttl_ms = ttl
        message.expires_at = None if ttl is None else now + ttl
        message.due_at = message.expires_at
        self._store(message, Status.ACTIVE, now)

    def _store(self, message: StoredMessage, status: Status, now: int) -> None:
        message.sequence_number = self._sequence_numbers.next()
        message.enqueued_at = now
        self._table.insert(message, status)

    def _change(self, message: StoredMessage, changes: Entries) -> None:
        content = with_properties(message.content, changes)
        self.quota.used += Quota.cost(content) - Quota.cost(message.content)
        message.content = content

    def _locked(self, token: uuid.UUID) -> StoredMessage:
        self.advance()
        return self._find(token)

    def _find(self, token: uuid.UUID) -> StoredMessage:
        message = self._table.locked_by(token)
        if message is None:
            raise LockLost(
                f"the lock on a message of {self.path} has expired, or the message is settled"
            )
        return message

    def _unlock(self, message: StoredMessage, delivery_failed: bool) -> None:
        if delivery_failed:
            message.delivery_count += 1
            most = self.settings.max_delivery_count
            if self.dead_letters is not None and message.delivery_count >= most:
                self._move_to_dead_letters(
                    message,
                    "MaxDeliveryCountExceeded",
                    f"Message could not be consumed after {most} delivery attempts.",
                )
                return
        self._table.move(message, Status.DEFERRED if message.deferred else Status.ACTIVE)

    def _expire(self, message: StoredMessage) -> None:
        if self.dead_letters is not None and self.settings.dead_letter_on_expiration:
            self._move_to_dead_letters(
                message, "TTLExpiredException", "The message expired and was dead lettered."
            )
        else:
            self._table.remove(message)

    def _move_to_dead_letters(
        self, message: StoredMessage, reason: str | None, description: str | None
    ) -> None:
        self._table.remove(message)
        if self.dead_letters is not None:
            self.dead_letters.receive_dead_letter(message, reason, description)

    def receive_dead_letter(
        self, message: StoredMessage, reason: str | None, description: str | None
    ) -> None:
        """Add a message with its sequence number; it no longer expires."""
        message.content = with_dead_letter(message.content, reason, description)
        message.deferred = False
        message.expires_at = message.due_at = None
        self._table.insert(message, Status.ACTIVE)
        self.on_change()

    def _require(self, sequence_numbers: Sequence[int], status: Status) -> list[StoredMessage]:
        messages = []
        for sequence_number in dict.fromkeys(sequence_numbers):
            message = self._table.get(sequence_number)
            if message is None or message.status is not status:
                raise MessageNotFound(
                    f"{self.path} has no {status.name.lower()} message {sequence_number}"
                )
            messages.append(message)
        return messages
