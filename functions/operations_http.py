"""HTTP functions for operators: streams, rejected messages, dead letters, replay, kill, doctor.

A key of the role ``operator`` reaches its own tenant's streams, runs and rejected messages. Dead
letters belong to all tenants, so only their numbers are shown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import azure.functions as func
from pydantic import FailFast, Field

from domain.contracts.strict_json import NullIs
from domain.database.paging import InvalidCursor
from domain.errors import OperationError
from domain.eventlog.intent_streams import STREAM_PREFIX
from domain.intents.content import NO_NUL
from domain.intents.refusals import IntentNotFound, NothingRuns
from domain.messaging.rejected import RejectedMessage
from domain.operations.doctor.findings import worst
from domain.operations.redrive import SelectionChanged, Target
from domain.operations.replay import NoSuchStream
from domain.operations.selection import ForeignTenant, Preview, Selection, selection_of
from domain.operations.time_travel import StreamThen
from functions.bodies import Body
from functions.http import (
    AuthenticatedRequest,
    json_response,
    operator_endpoint,
    parse_body,
)
from functions.lookup import intent_id_of, no_intent, parse_uuid
from functions.parameters import number_parameter
from functions.presenting import shown_event, shown_intent
from functions.problems import Problem
from functions.routes import Route

logger = logging.getLogger(__name__)

bp = func.Blueprint()

_REPLAYS_PER_SECOND = 100.0
_BUS_SECONDS = 20.0


class ReplayRequest(Body):
    """Body of a replay.

    Attributes:
        where: conditions as in ``qlp replay --where``; either this or ``ids`` is given.
        ids: ids of intents.
        to: see `domain.operations.redrive.Redrive.execute`.
        limit: at most this many intents, oldest first.
        execute: false: only preview.
        expected: ``preview.selected`` as seen before; if it differs now, nothing is executed.
    """

    where: Annotated[str, Field(max_length=1000)] | None = None
    ids: Annotated[tuple[UUID, ...], Field(max_length=500), FailFast(), NullIs(())] = ()
    to: Annotated[Target, NullIs("nowhere")] = "nowhere"
    limit: Annotated[int, Field(ge=1, le=500), NullIs(100)] = 100
    execute: Annotated[bool, NullIs(False)] = False
    expected: int | None = Field(default=None, ge=0)


class KillRequest(Body):
    """Body of a kill: the reason is recorded."""

    reason: Annotated[str, Field(max_length=1000), NO_NUL] | None = None


@operator_endpoint(
    bp, Route("operate_list_streams", "GET", "operations/streams", query=("limit", "after"))
)
async def list_streams(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /operations/streams: the tenant's streams in the order of their ids, in pages."""
    limit = number_parameter(request.query, "limit", default=50, low=1, high=200)
    after = _text(request.query, "after")
    found = await request.app.operations.streams(request.principal.tenant_id, limit, after)
    next_after = found[-1].stream_id if len(found) == limit else None
    return json_response({"items": found, "next_after": next_after})


@operator_endpoint(
    bp, Route("operate_get_stream", "GET", "operations/streams/{id}", query=("as_of",))
)
async def get_stream(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /operations/streams/{id}: events, statuses and state, now or as of a time or version."""
    intent_id = _intent_id(request.http.route_params.get("id", ""))
    raw = _text(request.query, "as_of")
    try:
        then = await request.app.operations.stream(request.principal.tenant_id, intent_id, raw)
    except OperationError as error:
        raise Problem(400, "invalid-request", str(error).replace("as-of", "as_of")) from None
    except NoSuchStream as error:
        raise Problem(404, "not-found", f"{error}") from None
    return json_response(_stream(then))


@operator_endpoint(
    bp, Route("operate_list_rejected", "GET", "operations/rejected", query=("limit", "cursor"))
)
async def list_rejected(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /operations/rejected: messages for the tenant that could not be processed, and why."""
    limit = number_parameter(request.query, "limit", default=50, low=1, high=200)
    cursor = request.query.get("cursor")
    try:
        page = await request.app.operations.rejected(request.principal.tenant_id, limit, cursor)
    except InvalidCursor as error:
        raise Problem(400, "invalid-request", str(error)) from None
    items = [_rejected(message) for message in page.items]
    return json_response({"items": items, "next_cursor": page.next_cursor})


@operator_endpoint(bp, Route("operate_count_dead_letters", "GET", "operations/dead-letters"))
async def list_dead_letters(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /operations/dead-letters: their number in each queue and subscription."""
    try:
        async with asyncio.timeout(_BUS_SECONDS):
            counts = await request.app.operations.dead_letters()
    except (OperationError, TimeoutError) as error:
        raise _bus_unavailable(error) from error
    items = [{"entity": name, "dead_letters": count} for name, count in counts.items()]
    return json_response({"items": items})


@operator_endpoint(bp, Route("operate_replay", "POST", "operations/replay", body=True))
async def replay(request: AuthenticatedRequest) -> func.HttpResponse:
    """POST /operations/replay: show what would be replayed; with ``execute``, replay it."""
    body = parse_body(request.http, ReplayRequest)
    selection = _selection(request, body)
    redrive = request.app.operations.redrive
    found = await redrive.preview(selection, body.limit)
    shown = {"preview": found.summary(), "executed": body.execute, "result": None}
    if not body.execute:
        return json_response(shown)
    _require_expected(body, found)
    logger.warning(
        "key %s of tenant %s replays %d intents to %s",
        *(request.principal.key_id, request.principal.tenant_id, len(found.selected), body.to),
    )
    try:
        result = await redrive.execute(
            selection, body.limit, body.to, found, per_second=_REPLAYS_PER_SECOND
        )
    except SelectionChanged as error:
        raise Problem(409, "selection-changed", str(error)) from None
    except OperationError as error:
        raise _bus_unavailable(error) from error
    return json_response({**shown, "result": result.summary()})


@operator_endpoint(bp, Route("operate_doctor", "GET", "operations/doctor"))
async def doctor(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /operations/doctor: run every check of the whole system."""
    findings = await request.app.operations.examine()
    return json_response({"status": worst(findings), "findings": findings})


@operator_endpoint(bp, Route("operate_kill_run", "POST", "operations/intents/{id}/kill", body=True))
async def kill_run(request: AuthenticatedRequest) -> func.HttpResponse:
    """POST /operations/intents/{id}/kill: kill its open runs; 409 if there are none."""
    body = parse_body(request.http, KillRequest) if request.http.get_body() else KillRequest()
    intent_id = intent_id_of(request)
    try:
        killed = await request.app.service.kill(
            request.principal.tenant_id,
            intent_id,
            f"key {request.principal.key_id}",
            body.reason,
            traceparent=request.traceparent,
        )
    except IntentNotFound:
        raise no_intent(str(intent_id)) from None
    except NothingRuns as error:
        raise Problem(409, "nothing-runs", f"{error}.") from None
    return json_response({"intent_id": intent_id, "runs": killed}, 202)


def _selection(request: AuthenticatedRequest, body: ReplayRequest) -> Selection:
    try:
        return selection_of(body.ids, body.where).of_tenant(request.principal.tenant_id)
    except ForeignTenant as error:
        raise Problem(403, "forbidden", str(error)) from None
    except OperationError as error:
        raise Problem(400, "invalid-request", str(error)) from None


def _require_expected(body: ReplayRequest, found: Preview) -> None:
    if body.expected not in (None, len(found.selected)):
        raise Problem(
            409,
            "selection-changed",
            f"expected: {body.expected}, but {len(found.selected)} intents are selected now. "
            "Nothing was done: preview again",
        )


def _stream(then: StreamThen) -> dict[str, Any]:
    return {
        "intent_id": then.intent_id,
        "as_of": then.as_of,
        "version": then.version,
        "latest_version": then.latest_version,
        "state": shown_intent(then.state) if then.state else {},
        "history": then.history,
        "unreadable": then.unreadable,
        "events": [shown_event(record, "operator") for record in then.events],
    }


def _rejected(message: RejectedMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "source": message.source,
        "reason": message.reason,
        "description": message.description,
        "message_id": message.message_id,
        "deliveries": message.deliveries,
        "first_seen_at": message.first_seen_at,
        "last_seen_at": message.last_seen_at,
        "body": message.body.decode(errors="replace"),
    }


def _text(query: Mapping[str, str], name: str) -> str | None:
    value = query.get(name)
    if value is not None and (len(value) > 200 or "\x00" in value):
        raise Problem(400, "invalid-request", f"{name}: at most 200 characters, without NUL")
    return value


def _intent_id(raw: str) -> UUID:
    try:
        return parse_uuid(raw.removeprefix(STREAM_PREFIX))
    except ValueError:
        raise _no_stream(raw[:64]) from None


def _no_stream(intent_id: UUID | str) -> Problem:
    return Problem(404, "not-found", f"There is no stream of an intent {intent_id}.")


def _bus_unavailable(error: BaseException) -> Problem:
    detail = str(error) or f"Service Bus did not answer within {_BUS_SECONDS:g} s"
    return Problem(503, "unavailable", detail, headers={"Retry-After": "10"})
