"""HTTP functions for clients: submit, read, follow and cancel intents."""

from __future__ import annotations

from typing import Annotated, Any

import azure.functions as func
from pydantic import StringConstraints

from domain.application.admission import NotAdmitted
from domain.application.details import detailed
from domain.database.paging import InvalidCursor
from domain.intents.content import NO_NUL, IntentContent
from domain.intents.refusals import IntentAlreadyFinished, IntentNotFound, SubmissionConflict
from domain.intents.state import Status
from domain.projections.intent_row import row_of
from domain.projections.intents import IntentRow
from functions.bodies import Body
from functions.headers import preferred_wait, singleton
from functions.http import AuthenticatedRequest, endpoint, json_response, parse_body
from functions.lookup import intent_id_of, intent_row, no_intent
from functions.parameters import number_parameter, seconds_parameter, time_parameter
from functions.presenting import shown_event, shown_intent
from functions.problems import Problem, invalid_field, invalid_parameter, invalid_request
from functions.routes import Route

bp = func.Blueprint()

_MAX_KEY_CHARACTERS = 255
_PAGE = 200
_TERMINAL = frozenset(status.value for status in Status if status.terminal)


class Cancellation(Body):
    """Body of a cancellation."""

    reason: Annotated[str, StringConstraints(max_length=1000), NO_NUL] | None = None


@endpoint(bp, Route("submit_intent", "POST", "intents", body=True))
async def submit_intent(request: AuthenticatedRequest) -> func.HttpResponse:
    """POST /intents: 202 with the intent; 200 with its outcome if it ends in the time to wait."""
    key = _idempotency_key(request.http)
    wait = preferred_wait(request.http)
    content = parse_body(request.http, IntentContent)
    try:
        handled = await request.app.service.submit(
            request.principal.tenant_id,
            content,
            origin="http",
            key=key,
            traceparent=request.traceparent,
        )
    except NotAdmitted as error:
        raise invalid_field(error.pointer, error.detail) from None
    except SubmissionConflict:
        raise Problem(
            422,
            "idempotency-key-reused",
            "Idempotency-Key: was used before for another intent; use a new key.",
        ) from None
    headers = {"Location": f"/api/intents/{handled.state.id}"}
    if key is not None:
        headers["Idempotency-Replayed"] = "false" if handled.changed else "true"
    row = row_of(handled.state)
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait}"
        row = await _ended(request, row, wait)
    return json_response(_full(row), 200 if row.status in _TERMINAL else 202, headers)


@endpoint(bp, Route("get_intent", "GET", "intents/{id}"))
async def get_intent(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}: the intent and, once it has ended, its outcome."""
    wait = preferred_wait(request.http)
    [row] = await detailed(
        request.app.repository, [await _ended(request, await intent_row(request), wait)]
    )
    return json_response(_full(row))


@endpoint(
    bp,
    Route(
        "list_intents",
        "GET",
        "intents",
        query=("status", "created_after", "created_before", "limit", "cursor"),
    ),
)
async def list_intents(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents: the tenant's intents, newest first, page by page."""
    query = request.query
    status = query.get("status")
    if status is not None and status not in list(Status):
        raise invalid_parameter("status", f"must be one of {', '.join(Status)}")
    try:
        page = await request.app.reads.list(
            request.principal.tenant_id,
            status=status,
            created_after=time_parameter(query, "created_after"),
            created_before=time_parameter(query, "created_before"),
            limit=number_parameter(query, "limit", default=50, low=1, high=100),
            cursor=query.get("cursor"),
        )
    except InvalidCursor as error:
        raise invalid_parameter("cursor", str(error).removeprefix("cursor: ")) from None
    items = [row.summary() for row in await detailed(request.app.repository, page.items)]
    return json_response({"items": items, "next_cursor": page.next_cursor})


@endpoint(bp, Route("list_intent_events", "GET", "intents/{id}/events", query=("after", "wait")))
async def list_intent_events(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/events: its events; with ``wait``, waits for more after ``after``."""
    after = number_parameter(request.query, "after", default=0, low=0, high=2**31)
    wait = seconds_parameter(request.query, "wait")
    row = await intent_row(request)
    if wait and row.version <= after and row.status not in _TERMINAL:
        await request.app.watcher.wait(row.id, lambda version, _: version > after, wait)
    records = await request.app.repository.history(row.id)
    items = [
        shown_event(record, request.principal.role) for record in records if record.version > after
    ]
    return json_response({"items": items, "next_after": max(after, len(records))})


@endpoint(bp, Route("cancel_intent", "POST", "intents/{id}/cancel", body=True))
async def cancel_intent(request: AuthenticatedRequest) -> func.HttpResponse:
    """POST /intents/{id}/cancel: 200 if it is cancelled now, 409 if it had ended before."""
    intent_id = intent_id_of(request)
    body = parse_body(request.http, Cancellation) if request.http.get_body() else Cancellation()
    try:
        await request.app.service.cancel(
            request.principal.tenant_id, intent_id, body.reason, traceparent=request.traceparent
        )
    except IntentNotFound:
        raise no_intent(str(intent_id)) from None
    except IntentAlreadyFinished as error:
        raise Problem(409, "already-finished", f"{error}; it cannot be cancelled.") from None
    [row] = await detailed(request.app.repository, [await intent_row(request, intent_id)])
    return json_response(_full(row))


async def _ended(request: AuthenticatedRequest, row: IntentRow, wait: float | None) -> IntentRow:
    """The intent's row, after waiting up to ``wait`` seconds for its end."""
    if not wait or row.status in _TERMINAL:
        return row
    await request.app.watcher.wait(row.id, lambda _, status: status in _TERMINAL, wait)
    return await intent_row(request, row.id)


def _idempotency_key(request: func.HttpRequest) -> str | None:
    key = singleton(request, "Idempotency-Key")
    if key is None:
        return None
    if not (1 <= len(key) <= _MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise invalid_request(
            f"Idempotency-Key: must be 1 to {_MAX_KEY_CHARACTERS} printable ASCII characters, "
            "without a comma"
        )
    return key


def _full(row: IntentRow) -> dict[str, Any]:
    """An intent with its outcome and links."""
    here = f"/api/intents/{row.id}"
    links = {
        "self": here,
        "events": f"{here}/events",
        "output": f"{here}/output",
        "artifacts": f"{here}/artifacts",
        "cancel": f"{here}/cancel",
    }
    return {**shown_intent(row.document()), "links": links}
