"""What an entity promises about its messages, with a clock that the test moves."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from infra.local.servicebus.broker.stored import Quota, Status
from infra.local.servicebus.broker.topic import Topic
from infra.local.servicebus.errors import LockLost, MessageNotFound, NotAllowed, QuotaExceeded
from tests.support.servicebus.entities import (
    SETTINGS,
    FakeClock,
    content,
    dead_letters,
    lock_next,
    make_entity,
)


def test_messages_are_handed_out_in_order_and_once() -> None:
    entity = make_entity(FakeClock())
    entity.enqueue([content(), content(), content()])
    assert [lock_next(entity)[0] for _ in range(3)] == [1, 2, 3]
    assert entity.acquire() is None


def test_a_returned_message_is_next_again() -> None:
    entity = make_entity(FakeClock())
    entity.enqueue([content(), content()])
    _, token = lock_next(entity)
    entity.release(token, delivery_failed=True)
    assert lock_next(entity)[0] == 1


def test_a_release_without_failure_does_not_count() -> None:
    entity = make_entity(FakeClock())
    entity.enqueue([content()])
    for failed, count in ((False, 0), (True, 1)):
        _, token = lock_next(entity)
        entity.release(token, delivery_failed=failed)
        message = next(entity.browse(1))
        assert message.delivery_count == count


def test_a_lock_holds_to_its_last_millisecond_and_no_longer() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    entity.enqueue([content()])
    _, token = lock_next(entity)
    clock.now += 59_999
    assert entity.is_locked(token)
    assert not entity.has_ready()
    clock.now += 1
    assert not entity.is_locked(token)
    assert entity.has_ready()
    for settle in (entity.complete, entity.defer):
        with pytest.raises(LockLost):
            settle(token)


def test_renewal_is_for_all_tokens_or_none() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    entity.enqueue([content(), content()])
    _, first = lock_next(entity)
    clock.now += 30_000
    _, second = lock_next(entity)
    clock.now += 29_000
    assert entity.renew([first, second]) == [clock.now + 60_000] * 2
    clock.now += 59_999
    with pytest.raises(LockLost):
        entity.renew([first, uuid.uuid4()])
    clock.now += 1
    assert not entity.is_locked(first)


def test_the_last_delivery_allowed_ends_in_the_dead_letter_queue() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    entity.enqueue([content()])
    for _ in range(2):
        entity.release(lock_next(entity)[1], delivery_failed=True)
    lock_next(entity)
    clock.now += 60_000
    assert not entity.has_ready()
    letter = dead_letters(entity).acquire()
    assert letter is not None
    assert b"MaxDeliveryCountExceeded" in letter.render()
    assert (letter.sequence_number, letter.delivery_count) == (1, 3)


def test_dead_letters_neither_expire_nor_move_on() -> None:
    clock = FakeClock()
    entity = make_entity(clock, replace(SETTINGS, default_ttl_ms=1000))
    entity.enqueue([content()])
    _, token = lock_next(entity)
    entity.dead_letter(token, "r", "d")
    dead = dead_letters(entity)
    for _ in range(10):
        clock.now += 10_000_000
        _, token = lock_next(dead)
        with pytest.raises(NotAllowed):
            dead.dead_letter(token, None, None)
        dead.release(token, delivery_failed=True)
    assert dead.counts()[Status.ACTIVE] == 1


@pytest.mark.parametrize(("own", "default", "lives"), [(5000, 9000, 5000), (9000, 5000, 5000)])
def test_the_shorter_time_to_live_counts(own: int, default: int, lives: int) -> None:
    clock = FakeClock()
    entity = make_entity(clock, replace(SETTINGS, default_ttl_ms=default))
    entity.enqueue([content(ttl_ms=own)])
    clock.now += lives - 1
    assert entity.has_ready()
    clock.now += 1
    assert not entity.has_ready()
    assert dead_letters(entity).counts()[Status.ACTIVE] == 1


def test_a_message_does_not_expire_while_it_is_locked() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    entity.enqueue([content(ttl_ms=1000)])
    _, token = lock_next(entity)
    clock.now += 30_000
    assert entity.is_locked(token)
    entity.release(token, delivery_failed=False)
    assert not entity.has_ready()
    assert dead_letters(entity).counts()[Status.ACTIVE] == 1


def test_expiry_drops_where_no_dead_lettering_is_configured() -> None:
    clock = FakeClock()
    entity = make_entity(clock, replace(SETTINGS, dead_letter_on_expiration=False))
    entity.enqueue([content(ttl_ms=1)])
    clock.now += 1
    assert sum(entity.counts().values()) == 0
    assert dead_letters(entity).counts()[Status.ACTIVE] == 0
    assert entity.quota.used == 0


def test_a_scheduled_message_joins_the_end_of_the_queue_at_its_time() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    due = clock.now + 1000
    assert entity.enqueue([content(b"later", at=due, ttl_ms=500), content(b"now")]) == [1, 2]
    clock.now = due - 1
    assert entity.counts()[Status.SCHEDULED] == 1
    assert entity.next_deadline() == due
    clock.now = due
    assert [m.sequence_number for m in entity.browse(1)] == [2, 3]
    message = next(entity.browse(3))
    assert (message.enqueued_at, message.expires_at) == (due, due + 500)
    with pytest.raises(MessageNotFound):
        entity.cancel_scheduled([1])


def test_a_time_in_the_past_is_now() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    entity.enqueue([content(at=clock.now)])
    assert entity.has_ready()


def test_cancelling_is_for_all_numbers_or_none() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    entity.enqueue([content(at=clock.now + 9), content(at=clock.now + 9)])
    with pytest.raises(MessageNotFound):
        entity.cancel_scheduled([1, 77])
    assert entity.counts()[Status.SCHEDULED] == 2
    entity.cancel_scheduled([1, 2])
    assert entity.quota.used == 0


def test_a_deferred_message_stays_deferred_when_its_lock_expires() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    entity.enqueue([content()])
    entity.defer(lock_next(entity)[1])
    (message,) = entity.receive_deferred([1], delete=False)
    assert message.lock is not None
    with pytest.raises(MessageNotFound):
        entity.receive_deferred([1], delete=False)
    clock.now += 60_000
    assert not entity.has_ready()
    entity.receive_deferred([1], delete=True)
    assert entity.quota.used == 0


def test_a_deferred_message_expires_when_it_is_asked_for() -> None:
    clock = FakeClock()
    entity = make_entity(clock)
    entity.enqueue([content(ttl_ms=1000)])
    entity.defer(lock_next(entity)[1])
    clock.now += 1000
    assert entity.counts()[Status.DEFERRED] == 1
    with pytest.raises(MessageNotFound, match="expired"):
        entity.receive_deferred([1], delete=False)
    assert dead_letters(entity).counts()[Status.ACTIVE] == 1


def test_a_full_entity_takes_all_of_a_batch_or_nothing() -> None:
    entity = make_entity(FakeClock(), quota_bytes=5000)
    entity.enqueue([content()])
    with pytest.raises(QuotaExceeded, match="q holds"):
        entity.enqueue([content()] * 4)
    assert entity.counts()[Status.ACTIVE] == 1
    entity.enqueue([content()] * 3)


def test_dead_letters_count_towards_the_quota() -> None:
    entity = make_entity(FakeClock(), quota_bytes=1500)
    entity.enqueue([content()])
    entity.dead_letter(lock_next(entity)[1], None, None)
    with pytest.raises(QuotaExceeded):
        entity.enqueue([content()])


def test_a_topic_publishes_to_all_subscriptions_or_none() -> None:
    clock = FakeClock()
    roomy, tight = make_entity(clock), make_entity(clock, quota_bytes=1200)
    topic = Topic("t", {"roomy": roomy, "tight": tight}, clock, Quota("t", 10_000))
    topic.enqueue([content()])
    with pytest.raises(QuotaExceeded):
        topic.enqueue([content()])
    assert roomy.counts()[Status.ACTIVE] == 1
    topic.enqueue([content(at=clock.now + 5)])
    assert topic.scheduled() == 1
    clock.now += 5
    assert topic.scheduled() == 0
    assert roomy.counts()[Status.ACTIVE] == 2


class Bookkeeping(RuleBasedStateMachine):
    """Whatever happens in whatever order, every message is in one place and accounted for."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.entity = make_entity(self.clock, quota_bytes=10_000_000)
        self.sent = self.gone = 0
        self.tokens: list[uuid.UUID] = []

    @rule(count=st.integers(1, 4), ttl=st.none() | st.integers(1, 200_000))
    def send(self, count: int, ttl: int | None) -> None:
        self.entity.enqueue([content(ttl_ms=ttl)] * count)
        self.sent += count

    @rule(delay=st.integers(1, 100_000))
    def schedule(self, delay: int) -> None:
        self.entity.enqueue([content(at=self.clock.now + delay)])
        self.sent += 1

    @rule()
    def receive(self) -> None:
        message = self.entity.acquire()
        if message is not None and message.lock is not None:
            self.tokens.append(message.lock.token)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), outcome=st.sampled_from(["complete", "abandon", "defer", "bury"]))
    def settle(self, data: st.DataObject, outcome: str) -> None:
        token = self.tokens.pop(data.draw(st.integers(0, len(self.tokens) - 1)))
        try:
            if outcome == "complete":
                self.entity.complete(token)
                self.gone += 1
            elif outcome == "abandon":
                self.entity.release(token, delivery_failed=True)
            elif outcome == "defer":
                self.entity.defer(token)
            else:
                self.entity.dead_letter(token, "r", None)
        except LockLost:
            assert not self.entity.is_locked(token)

    @rule()
    def receive_deferred(self) -> None:
        numbers = [m.sequence_number for m in self.entity.browse(1) if m.status is Status.DEFERRED]
        if numbers:
            try:
                (message,) = self.entity.receive_deferred(numbers[:1], delete=False)
            except MessageNotFound:
                return
            assert message.lock is not None
            self.tokens.append(message.lock.token)

    @rule(step=st.integers(1, 90_000))
    def wait(self, step: int) -> None:
        self.clock.now += step

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        counts, dead = self.entity.counts(), dead_letters(self.entity).counts()
        assert sum(counts.values()) + sum(dead.values()) + self.gone == self.sent
        numbers = [m.sequence_number for m in self.entity.browse(1)]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == sum(counts.values())

    @invariant()
    def bytes_are_accounted_for(self) -> None:
        held = [*self.entity.browse(1), *dead_letters(self.entity).browse(1)]
        assert self.entity.quota.used == sum(Quota.cost(m.content) for m in held)


TestBookkeeping = Bookkeeping.TestCase
TestBookkeeping.settings = hypothesis_settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
