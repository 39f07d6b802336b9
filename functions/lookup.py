"""Finds the intent that a request's route names."""

from __future__ import annotations

import re
from uuid import UUID

from domain.projections.intents import IntentRow
from functions.http import AuthenticatedRequest
from functions.problems import Problem
from functions.routes import path_of, wrong_method

_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def parse_uuid(raw: str) -> UUID:
    """The id in ``raw``, which must be written with hyphens, in any case.

    `UUID` itself also takes braces, ``urn:uuid:``, underscores and digits of other scripts.

    Raises:
        ValueError: it is none.
    """
    if not _ID.fullmatch(raw):
        raise ValueError("not a UUID such as 7f6f9d1e-5a0b-4b3c-9a51-0c6f3c1f2ab4")
    return UUID(raw)


def intent_id_of(request: AuthenticatedRequest) -> UUID:
    """The id in the route.

    Raises:
        Problem: 404: it is not an id.
    """
    raw = request.http.route_params.get("id", "")
    try:
        return parse_uuid(raw)
    except ValueError:
        # With another method than POST, the host takes "intents/search" for an intent's address.
        path = path_of(request.http.url)
        raise wrong_method(request.http.method, path) or no_intent(raw[:64]) from None


async def intent_row(request: AuthenticatedRequest, intent_id: UUID | None = None) -> IntentRow:
    """The row of an intent of the caller's tenant, by default the route's.

    Raises:
        Problem: 404: the tenant has no such intent.
    """
    intent_id = intent_id_of(request) if intent_id is None else intent_id
    row = await request.app.reads.get(request.principal.tenant_id, intent_id)
    if row is None:
        raise no_intent(str(intent_id))
    return row


def no_intent(intent_id: str) -> Problem:
    """The problem that there is no such intent, for this caller."""
    return Problem(404, "not-found", f"There is no intent {intent_id}.")
