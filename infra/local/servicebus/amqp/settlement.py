"""Applies the outcomes that receivers send for deliveries.

Source: AMQP 1.0 part 3.4; "AMQP 1.0 in Azure Service Bus", section on settlement. ``accepted``
means complete; ``modified`` abandon, or defer if undeliverable-here is set; ``rejected``
dead-letter.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

from infra.local.servicebus.amqp.answers import (
    ACCEPTED_STATE,
    REJECTED_STATE,
    RELEASED_STATE,
    modified_state,
    rejected_state,
)
from infra.local.servicebus.amqp.performatives import ACCEPTED, MODIFIED, REJECTED, RELEASED
from infra.local.servicebus.broker.entity import Entity
from infra.local.servicebus.broker.messages import NO_ENTRIES, Entries, changes_in
from infra.local.servicebus.codec.decode import described_fields
from infra.local.servicebus.codec.types import Described
from infra.local.servicebus.errors import BusError, InvalidRequest, LockLost

#: The answer for a delivery that the peer no longer holds.
LOCK_LOST_STATE = rejected_state(
    LockLost.condition, "the lock has expired, or the message is settled"
)


def settle(entity: Entity, token: uuid.UUID, state: Described | None, frame: bytes) -> bytes:
    """Apply an outcome to a locked message; ``frame`` is the encoded disposition with it.

    Returns:
        The outcome to answer with: the same, or ``rejected`` with the error.
    """
    try:
        return _apply(entity, token, state, frame)
    except BusError as error:
        return rejected_state(error.condition, str(error))


def _apply(entity: Entity, token: uuid.UUID, state: Described | None, frame: bytes) -> bytes:
    code = RELEASED if state is None else state.descriptor
    fields = state.value if state is not None and isinstance(state.value, list) else []
    if code == ACCEPTED:
        entity.complete(token)
        return ACCEPTED_STATE
    if code == RELEASED:
        entity.release(token, delivery_failed=False)
        return RELEASED_STATE
    if code == MODIFIED:
        failed, elsewhere = [*fields, None, None][:2]
        changes = _changes(frame, _ANNOTATIONS_OF_MODIFIED)
        if elsewhere is True:
            entity.defer(token, changes)
        else:  # an abandon raises the delivery count even if delivery-failed is not set
            entity.release(token, delivery_failed=True, changes=changes)
        return modified_state(failed is True, elsewhere is True)
    if code == REJECTED:
        changes = _changes(frame, _INFO_OF_REJECTED, _DEAD_LETTER_NAMES)
        entity.dead_letter(token, *_dead_letter_details(fields), changes)
        return REJECTED_STATE
    raise InvalidRequest("the disposition carries an unknown outcome")


#: Field indexes from a disposition to the map of properties that the receiver sets.
_ANNOTATIONS_OF_MODIFIED, _INFO_OF_REJECTED = (4, 2), (4, 0, 2)
_DEAD_LETTER_NAMES = frozenset((b"DeadLetterReason", b"DeadLetterErrorDescription"))


def _changes(frame: bytes, path: tuple[int, ...], but: Collection[bytes] = ()) -> Entries:
    """The properties that an outcome sets, with their AMQP types.

    Raises:
        MalformedMessage, MessageTooLarge: they cannot be application properties.
    """
    found = frame
    for index in path:
        fields = described_fields(found)
        if len(fields) <= index:
            return NO_ENTRIES
        found = fields[index]
    return changes_in(found, but)


def _dead_letter_details(fields: list[object]) -> tuple[str | None, str | None]:
    """Reason and description: of the error's info map, else of the error itself."""
    error = fields[0] if fields else None
    if not isinstance(error, Described) or not isinstance(error.value, list):
        return None, None
    condition, description, info = [*error.value, None, None, None][:3]
    if isinstance(info, dict) and "DeadLetterReason" in info:
        return _text(info["DeadLetterReason"]), _text(info.get("DeadLetterErrorDescription"))
    return _text(condition), _text(description)


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None
