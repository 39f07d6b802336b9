"""An entity's settings, its stored messages, and the quota on its size."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from typing import NamedTuple

from infra.local.servicebus.broker.messages import Content
from infra.local.servicebus.broker.render import BrokerProperties, render
from infra.local.servicebus.errors import QuotaExceeded

#: Memory that a message takes in addition to its content, measured on CPython 3.11, rounded up.
_BOOKKEEPING_BYTES = 1024


class Status(enum.Enum):
    """The state of a message."""

    ACTIVE = "active"
    LOCKED = "locked"
    DEFERRED = "deferred"
    SCHEDULED = "scheduled"


#: ``x-opt-message-state``.
_WIRE_STATES = {Status.DEFERRED: 1, Status.SCHEDULED: 2}


@dataclass(frozen=True)
class EntitySettings:
    """Properties of a queue or subscription; times in milliseconds, None for no limit."""

    lock_duration_ms: int
    max_delivery_count: int
    default_ttl_ms: int | None
    dead_letter_on_expiration: bool


class Lock(NamedTuple):
    """A lock on a message; it ends at ``until``, in ms since the epoch."""

    token: uuid.UUID
    until: int


@dataclass(slots=True, eq=False)
class StoredMessage:
    """A message in an entity.

    Attributes:
        due_at: when an unlocked message expires, or a scheduled one is enqueued.
    """

    content: Content
    sequence_number: int = 0
    enqueued_at: int = 0
    ttl_ms: int | None = None
    expires_at: int | None = None
    due_at: int | None = None
    status: Status = Status.ACTIVE
    deferred: bool = False
    delivery_count: int = 0
    lock: Lock | None = None
    topic_sequence_number: int | None = None

    def render(self) -> bytes:
        """The message, encoded for a receiver."""
        state = 1 if self.deferred else _WIRE_STATES.get(self.status, 0)
        return render(
            self.content,
            BrokerProperties(
                delivery_count=self.delivery_count,
                ttl_ms=self.ttl_ms,
                sequence_number=self.sequence_number,
                enqueued_at=self.enqueued_at,
                locked_until=None if self.lock is None else self.lock.until,
                state=state,
                topic_sequence_number=self.topic_sequence_number,
            ),
        )


class SequenceNumbers:
    """The sequence numbers of an entity and its dead-letter queue, unique across both."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """The next number."""
        self._last += 1
        return self._last


class Quota:
    """The limit on the bytes that an entity and its dead-letter queue hold together."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        self.used = 0
        self._path = path
        self._limit_bytes = limit_bytes

    @staticmethod
    def cost(content: Content) -> int:
        """The bytes that ``content`` counts for."""
        return content.size + _BOOKKEEPING_BYTES

    def require(self, more: int) -> None:
        """Check that ``more`` bytes fit.

        Raises:
            QuotaExceeded: they do not; with the figures.
        """
        if self.used + more > self._limit_bytes:
            raise QuotaExceeded(
                f"{self._path} holds {self.used} of {self._limit_bytes} bytes, "
                f"{more} more do not fit; receive messages or purge its dead-letter queue"
            )
