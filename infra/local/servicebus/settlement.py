"""Outcomes that receivers send for deliveries, applied to an entity.

Source: AMQP 1.0 part 3.4; "AMQP 1.0 in Azure Service Bus", section on settlement. Accepted is
complete; modified is abandon, or defer if undeliverable here; rejected is dead-letter.
"""

from __future__ import annotations

import uuid

from infra.local.servicebus.amqp_types import Described
from infra.local.servicebus.answers import (
    ACCEPTED_STATE,
    REJECTED_STATE,
    RELEASED_STATE,
    modified_state,
    rejected_state,
)
from infra.local.servicebus.entity import Entity
from infra.local.servicebus.errors import BusError, InvalidRequest, LockLost
from infra.local.servicebus.performatives import ACCEPTED, MODIFIED, REJECTED, RELEASED

#: The answer about a delivery that is not the peer's any more.
LOCK_LOST_STATE = rejected_state(LockLost.condition, "the lock has expired, or is settled")


def settle(entity: Entity, token: uuid.UUID, state: Described | None) -> bytes:
    """Apply an outcome to a locked message.

    Returns:
        The state to answer with: the outcome itself, or ``rejected`` with the error.
    """
    try:
        return _apply(entity, token, state)
    except BusError as error:
        return rejected_state(error.condition, str(error))


def _apply(entity: Entity, token: uuid.UUID, state: Described | None) -> bytes:
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
        if elsewhere is True:
            entity.defer(token)
        else:
            entity.release(token, delivery_failed=failed is True)
        return modified_state(failed is True, elsewhere is True)
    if code == REJECTED:
        entity.dead_letter(token, *_dead_letter_details(fields))
        return REJECTED_STATE
    raise InvalidRequest("the disposition carries an unknown outcome")


def _dead_letter_details(fields: list[object]) -> tuple[str | None, str | None]:
    """Reason and description, in the info map of the error."""
    error = fields[0] if fields else None
    if not isinstance(error, Described) or not isinstance(error.value, list):
        return None, None
    condition, description, info = [*error.value, None, None, None][:3]
    if isinstance(info, dict) and "DeadLetterReason" in info:
        return _text(info["DeadLetterReason"]), _text(info.get("DeadLetterErrorDescription"))
    return _text(condition), _text(description)


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None
