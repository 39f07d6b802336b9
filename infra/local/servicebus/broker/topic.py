"""A topic: copies each message to all of its subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infra.local.servicebus.broker.deadlines import Deadlines
from infra.local.servicebus.broker.entity import Clock, Entity, ignore_change
from infra.local.servicebus.broker.messages import Content
from infra.local.servicebus.broker.stored import Quota, SequenceNumbers
from infra.local.servicebus.errors import MessageNotFound


class Topic:
    """Holds only scheduled messages; all others are in its subscriptions."""

    def __init__(
        self, path: str, subscriptions: dict[str, Entity], clock: Clock, quota: Quota
    ) -> None:
        self.path = path
        self.subscriptions = subscriptions
        self.on_change: Callable[[], None] = ignore_change
        self._clock = clock
        self._quota = quota
        self._sequence_numbers = SequenceNumbers()
        self._scheduled: dict[int, Content] = {}
        self._deadlines = Deadlines()

    def enqueue(self, contents: Sequence[Content]) -> list[int]:
        """Add all of ``contents`` to every subscription, or none to any.

        Returns:
            Their sequence numbers in the topic.

        Raises:
            QuotaExceeded: a subscription is full, or the topic holds too many scheduled messages.
        """
        now = self.advance()
        due = [c for c in contents if c.scheduled_for is None or c.scheduled_for <= now]
        cost = sum(map(Quota.cost, due))
        for subscription in self.subscriptions.values():
            subscription.quota.require(cost)
        self._quota.require(sum(map(Quota.cost, contents)) - cost)
        numbers = []
        for content in contents:
            number = self._sequence_numbers.next()
            if content.scheduled_for is not None and content.scheduled_for > now:
                self._scheduled[number] = content
                self._quota.used += Quota.cost(content)
                self._deadlines.set(number, content.scheduled_for)
            else:
                self._publish(content, number)
            numbers.append(number)
        self.on_change()
        return numbers

    def cancel_scheduled(self, sequence_numbers: Sequence[int]) -> None:
        """Delete scheduled messages, all or none.

        Raises:
            MessageNotFound: one is unknown, or has been published already.
        """
        self.advance()
        numbers = set(sequence_numbers)
        missing = numbers - self._scheduled.keys()
        if missing:
            raise MessageNotFound(f"{self.path} has no scheduled message {min(missing)}")
        for number in numbers:
            self._forget(number)
        self.on_change()

    def scheduled(self) -> int:
        """How many messages wait for their time."""
        self.advance()
        return len(self._scheduled)

    def next_deadline(self) -> int | None:
        """When the next scheduled message is due, in ms since the epoch."""
        return self._deadlines.next()

    def clear(self) -> None:
        """Delete the scheduled messages."""
        for number in list(self._scheduled):
            self._forget(number)
        self.on_change()

    def advance(self) -> int:
        """Publish the messages that are due, even if a subscription's quota is exceeded."""
        now = self._clock()
        while (number := self._deadlines.pop_due(now)) is not None:
            self._publish(self._forget(number), number)
        return now

    def _forget(self, number: int) -> Content:
        content = self._scheduled.pop(number)
        self._quota.used -= Quota.cost(content)
        self._deadlines.set(number, None)
        return content

    def _publish(self, content: Content, number: int) -> None:
        for subscription in self.subscriptions.values():
            subscription.publish(content, number)
