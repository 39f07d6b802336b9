"""What a receiver sends with an outcome is kept, with its types."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local.servicebus.amqp.answers import performative
from infra.local.servicebus.amqp.performatives import (
    DISPOSITION,
    ERROR,
    MODIFIED,
    REJECTED,
    Disposition,
    parse,
)
from infra.local.servicebus.amqp.settlement import settle
from infra.local.servicebus.broker.stored import StoredMessage
from infra.local.servicebus.codec.decode import decode
from infra.local.servicebus.codec.encode import encode
from infra.local.servicebus.codec.types import Described, Symbol, Timestamp, UInt, ULong
from tests.support.servicebus.entities import (
    FakeClock,
    content,
    dead_letters,
    lock_next,
    make_entity,
)


def settled(entity: Any, code: int, *fields: object) -> str:
    """Settle the next message; the condition of a refusal, or nothing."""
    _, token = lock_next(entity)
    state = Described(ULong(code), list(fields))
    frame = performative(DISPOSITION, True, UInt(0), None, False, state)
    disposition, _ = parse(frame)
    assert isinstance(disposition, Disposition)
    answer, _ = decode(settle(entity, token, disposition.state, frame))
    error = answer.value[0] if answer.value else None
    return str(error.value[0]) if isinstance(error, Described) else ""


def only(entity: Any) -> StoredMessage:
    [message] = entity.browse(0)
    assert isinstance(message, StoredMessage)
    return message


@pytest.fixture
def entity() -> Any:
    entity = make_entity(FakeClock())
    entity.enqueue([content()])
    return entity


@pytest.mark.parametrize("failed", [True, False, None])
def test_an_abandon_counts_whatever_it_says_of_the_delivery(entity: Any, failed: Any) -> None:
    assert settled(entity, MODIFIED, failed, False, None) == ""
    assert only(entity).delivery_count == 1


def test_properties_are_merged_with_their_types(entity: Any) -> None:
    first = {Symbol("at"): Timestamp(5), Symbol("why"): "once"}
    assert settled(entity, MODIFIED, True, False, first) == ""
    assert settled(entity, MODIFIED, True, False, {Symbol("why"): "twice"}) == ""
    raw = only(entity).content.application_properties.raw
    assert encode("at") + encode(Timestamp(5)) in raw
    assert encode("why") + encode("twice") in raw
    assert b"once" not in raw


def test_a_dead_letter_takes_the_other_properties_along(entity: Any) -> None:
    info = {Symbol("DeadLetterReason"): "r", Symbol("extra"): Timestamp(7)}
    error = Described(ULong(ERROR), [Symbol("com.microsoft:dead-letter"), None, info])
    assert settled(entity, REJECTED, error) == ""
    raw = only(dead_letters(entity)).content.application_properties.raw
    assert raw.count(b"DeadLetterReason") == 1
    assert encode("extra") + encode(Timestamp(7)) in raw


@pytest.mark.parametrize(
    ("changes", "condition"),
    [
        ({Symbol("x"): "y" * 33_000}, "amqp:link:message-size-exceeded"),
        ({Symbol(name): "y" * 30_000 for name in "abc"}, "amqp:link:message-size-exceeded"),
        ({Symbol("x"): ["y"]}, "amqp:decode-error"),
    ],
)
def test_properties_that_no_message_may_have_are_refused_and_change_nothing(
    entity: Any, changes: Any, condition: str
) -> None:
    assert settled(entity, MODIFIED, True, False, changes) == condition
    assert only(entity).content.application_properties.raw == b""
    assert only(entity).delivery_count == 0
