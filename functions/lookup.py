"""Finds the intent that a request's route names."""

from __future__ import annotations

from uuid import UUID

from domain.projections.intents import IntentRow
from functions.http import Call
from functions.problems import Problem


def intent_id_of(call: Call) -> UUID:
    """The id in the route.

    Raises:
        Problem: 404, it is no id.
    """
    raw = call.request.route_params.get("id", "")
    try:
        return UUID(raw)
    except ValueError:
        raise no_intent(raw[:64]) from None


async def intent_row(call: Call, intent_id: UUID | None = None) -> IntentRow:
    """The caller's intent, by default the route's.

    Raises:
        Problem: 404, the caller's tenant has no such intent.
    """
    intent_id = intent_id_of(call) if intent_id is None else intent_id
    row = await call.app.reads.get(call.principal.tenant_id, intent_id)
    if row is None:
        raise no_intent(str(intent_id))
    return row


def no_intent(intent_id: str) -> Problem:
    """The problem of an intent that there is not, for this caller."""
    return Problem(404, "not-found", f"There is no intent {intent_id}.")
