"""What all HTTP functions share: authentication, trace context, errors, JSON."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import azure.functions as func
import orjson
from pydantic import ValidationError

from domain.access.store import Principal
from domain.app import App, get_app
from domain.database import UNAVAILABLE
from domain.eventlog.migrate import SchemaOutOfDate
from domain.intents.value import adapter
from domain.messaging.envelope import child_of
from domain.settings import InvalidSettings
from domain.telemetry import security_event
from functions.problems import Problem, invalid_fields

logger = logging.getLogger(__name__)

#: Bytes of a request body. The content itself is bounded more tightly, and more exactly.
MAX_BODY_BYTES = 256 * 1024

#: Longest `Prefer: wait` and long poll, seconds; the load balancer gives up at 230.
MAX_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, of whoever it is."""

    app: App
    request: func.HttpRequest
    traceparent: str


@dataclass(frozen=True, slots=True)
class Call(Visit):
    """One authenticated request."""

    principal: Principal


Endpoint = Callable[[Call], Awaitable[func.HttpResponse]]
Door = Callable[[Visit], Awaitable[func.HttpResponse]]
Function = Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]
Model = TypeVar("Model")


def endpoint(handle: Endpoint) -> Function:
    """A `door` for those who have an API key."""

    @functools.wraps(handle)
    async def authenticated(visit: Visit) -> func.HttpResponse:
        principal = await _authenticate(visit.app, visit.request)
        return await handle(Call(visit.app, visit.request, visit.traceparent, principal))

    return door(authenticated)


def door(handle: Door) -> Function:
    """An HTTP function out of ``handle``, which authenticates; every error is a problem body."""

    @functools.wraps(handle)
    async def function(req: func.HttpRequest) -> func.HttpResponse:
        traceparent = child_of(req.headers.get("traceparent"))
        try:
            app = await get_app()
            response = await handle(Visit(app, req, traceparent))
        except Problem as problem:
            response = problem.response()
        except UNAVAILABLE as error:
            logger.error("database unavailable: %s", error)
            response = _unavailable("The database cannot be reached.").response()
        except (InvalidSettings, SchemaOutOfDate) as error:
            logger.error("not configured: %s", error)
            response = _unavailable("The service is not configured; see its log.").response()
        except Exception:
            logger.exception("unexpected error in %s", handle.__name__)
            trace_id = traceparent.split("-")[1]
            response = Problem(
                500,
                "internal-error",
                "Something went wrong on our side; the trace id identifies it in our logs.",
                traceId=trace_id,
            ).response()
        response.headers["traceparent"] = traceparent
        return response

    # The host reads names and annotations: it must see this function's, not the wrapped one's.
    del function.__wrapped__
    function.__annotations__ = {"req": func.HttpRequest, "return": func.HttpResponse}
    return function


def operator_endpoint(handle: Endpoint) -> Function:
    """An `endpoint` for keys of the role ``operator``; all others get 403."""

    @functools.wraps(handle)
    async def for_operators(call: Call) -> func.HttpResponse:
        if call.principal.role != "operator":
            raise Problem(
                403,
                "forbidden",
                "This needs an operator's key: qlp keys create --tenant … --role operator",
            )
        return await handle(call)

    return endpoint(for_operators)


def _unavailable(detail: str) -> Problem:
    return Problem(503, "unavailable", f"{detail} Try again soon.", headers={"Retry-After": "2"})


async def _authenticate(app: App, request: func.HttpRequest) -> Principal:
    key = request.headers.get("x-api-key") or bearer(request)
    principal = await app.keys.verify(key) if key else None
    if principal is None:
        if key:
            security_event("failed_authentication", door="api")
        raise unauthenticated(
            "The API key is not valid." if key else "Send an API key in X-API-Key."
        )
    return principal


def bearer(request: func.HttpRequest) -> str | None:
    """The credentials of ``Authorization: Bearer …`` (RFC 6750); None where there are none."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return (credentials.strip() or None) if scheme.lower() == "bearer" else None


def unauthenticated(detail: str) -> Problem:
    """The problem of a request whose sender did not prove who they are."""
    return Problem(
        401, "unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="qlp"'}
    )


def parse_body(
    request: func.HttpRequest, model: type[Model], max_bytes: int = MAX_BODY_BYTES
) -> Model:
    """The request body as ``model``.

    Raises:
        Problem: 413 too large, 415 not JSON by its content type, 400 malformed or out of bounds.
    """
    body = request.get_body() or b""
    if len(body) > max_bytes:
        raise Problem(
            413, "too-large", f"The body takes {len(body)} bytes, the limit is {max_bytes}."
        )
    content_type = request.headers.get("content-type", "application/json")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise Problem(415, "unsupported-media-type", "Send the body as application/json.")
    try:
        return adapter(model).validate_json(body)
    except ValidationError as error:
        raise invalid_fields(error) from None


def json_response(
    value: Any,  # noqa: ANN401 anything JSON
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> func.HttpResponse:
    """``value`` as an ``application/json`` response."""
    return func.HttpResponse(
        orjson.dumps(value), status_code=status, headers=headers, mimetype="application/json"
    )


def number_parameter(
    request: func.HttpRequest, name: str, *, default: int, low: int, high: int
) -> int:
    """A whole-number query parameter.

    Raises:
        Problem: 400, not a whole number from ``low`` to ``high``.
    """
    raw = request.params.get(name)
    if raw is None:
        return default
    if not (raw.isascii() and raw.isdigit() and len(raw) < 20 and low <= int(raw) <= high):
        raise Problem(
            400, "invalid-request", f"{name}: must be a whole number from {low} to {high}"
        )
    return int(raw)


def seconds(raw: str, name: str) -> float:
    """A number of seconds to wait, capped at `MAX_WAIT_SECONDS`.

    Raises:
        Problem: 400, not a number of seconds.
    """
    try:
        value = float(raw)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise Problem(400, "invalid-request", f"{name}: must be a number of seconds, 0 or more")
    return min(value, MAX_WAIT_SECONDS)


def preferred_wait(request: func.HttpRequest) -> float | None:
    """Seconds of ``Prefer: wait=N`` (RFC 7240); None where the client does not ask to wait."""
    for preference in request.headers.get("prefer", "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            return seconds(value.strip().strip('"'), "Prefer: wait")
    return None
