"""Messages and entities for the tests."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from infra.local.servicebus.broker.entity import Entity
from infra.local.servicebus.broker.messages import Content, parse_message
from infra.local.servicebus.broker.stored import EntitySettings, Quota, SequenceNumbers
from infra.local.servicebus.codec.encode import encode
from infra.local.servicebus.codec.types import Described, Symbol, Timestamp, ULong

SETTINGS = EntitySettings(
    lock_duration_ms=60_000,
    max_delivery_count=3,
    default_ttl_ms=None,
    dead_letter_on_expiration=True,
)


@dataclass
class FakeClock:
    """A clock that moves when it is told to; milliseconds."""

    now: int = 1_000_000

    def __call__(self) -> int:
        return self.now


def section(code: int, value: object) -> bytes:
    return encode(Described(ULong(code), value))


def payload(body: bytes = b"body", **annotations: int) -> bytes:
    """An encoded message; annotations are timestamps, underscores stand for hyphens."""
    entries = {Symbol(k.replace("_", "-")): Timestamp(v) for k, v in annotations.items()}
    return (section(0x72, entries) if entries else b"") + section(0x75, body)


def content(body: bytes = b"body", ttl_ms: int | None = None, at: int | None = None) -> Content:
    annotations = {} if at is None else {"x_opt_scheduled_enqueue_time": at}
    return replace(parse_message(payload(body, **annotations)), ttl_ms=ttl_ms)


def make_entity(
    clock: FakeClock, settings: EntitySettings = SETTINGS, quota_bytes: int = 1_000_000
) -> Entity:
    quota = Quota("q", quota_bytes)
    numbers = SequenceNumbers()
    dead = Entity("q/$DeadLetterQueue", settings, clock, quota, numbers)
    return Entity("q", settings, clock, quota, numbers, dead)


def dead_letters(entity: Entity) -> Entity:
    assert entity.dead_letters is not None
    return entity.dead_letters


def lock_next(entity: Entity) -> tuple[int, uuid.UUID]:
    """Lock the next message: its sequence number and lock token."""
    message = entity.acquire()
    assert message is not None
    assert message.lock is not None
    return message.sequence_number, message.lock.token
