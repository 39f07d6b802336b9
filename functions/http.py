"""What all HTTP functions share: authentication, trace context, errors, JSON."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import azure.functions as func
import orjson
from pydantic import ValidationError

from domain.access.store import Principal, Role
from domain.app import App, get_app
from domain.contracts.envelope import child_of
from domain.contracts.strict_json import MAX_NODES, read_as
from domain.database.outages import outage_of
from domain.eventlog.intent_streams import UnreadableStream
from domain.retry import reason_to_wait
from domain.telemetry import security_event
from functions.bodies import check_body_is_whole, check_no_body, json_body
from functions.headers import singleton
from functions.problems import Problem, invalid_fields
from functions.routes import Route, declare, nothing_at, path_of

logger = logging.getLogger(__name__)

#: `Retry-After` of a 503, seconds.
RETRY_AFTER_SECONDS = "2"


@dataclass(frozen=True, slots=True)
class Request:
    """A request from anybody.

    Attributes:
        http: the request as the host has it.
        query: its parameters by name.
    """

    app: App
    http: func.HttpRequest
    traceparent: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AuthenticatedRequest(Request):
    """A request with a valid API key."""

    principal: Principal


Answer = Callable[[func.HttpRequest, str], Awaitable[func.HttpResponse]]
PublicHandler = Callable[[Request], Awaitable[func.HttpResponse]]
Handler = Callable[[AuthenticatedRequest], Awaitable[func.HttpResponse]]
Function = Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]
Model = TypeVar("Model")


def answered(answer: Answer) -> Function:
    """Make an HTTP function of ``answer``, which gets the request and a ``traceparent``.

    Every error becomes a problem body.
    """

    @functools.wraps(answer)
    async def function(req: func.HttpRequest) -> func.HttpResponse:
        traceparent = child_of(req.headers.get("traceparent"))
        try:
            response = await answer(req, traceparent)
        except Problem as problem:
            response = problem.response()
        except UnreadableStream as error:
            logger.warning("refused: %s", error)
            response = Problem(
                409,
                "unreadable-intent",
                f"Nothing was changed: this release cannot read the intent ({error}). "
                "Try again after the next one.",
            ).response()
        except Exception as error:  # noqa: BLE001 whatever it is, the client gets a 500 and we the traceback
            response = _server_error(error, answer.__name__, traceparent).response()
        response.headers["traceparent"] = traceparent
        return response

    # The host reads names and annotations: it must see this function's, not the wrapped one's.
    del function.__wrapped__
    function.__annotations__ = {"req": func.HttpRequest, "return": func.HttpResponse}
    return function


def routed(bp: func.Blueprint, route: Route) -> Callable[[Answer], Function]:
    """Register what `answered` makes under ``route``."""
    declare(route)

    def put(answer: Answer) -> Function:
        @functools.wraps(answer)
        async def refuse_or_answer(request: func.HttpRequest, trace: str) -> func.HttpResponse:
            if request.method not in route.methods:  # hosts register HEAD with GET
                raise nothing_at(request.method, path_of(request.url))
            return await answer(request, trace)

        function = answered(refuse_or_answer)
        at_route = bp.route(
            route=route.template,
            methods=list(route.methods),
            auth_level=func.AuthLevel.ANONYMOUS,
        )
        bp.function_name(route.name)(at_route(function))
        return function

    return put


def public_endpoint(bp: func.Blueprint, route: Route) -> Callable[[PublicHandler], Function]:
    """Register a function that needs no API key; it may authenticate its callers itself."""

    def put(handle: PublicHandler) -> Function:
        @functools.wraps(handle)
        async def answer(request: func.HttpRequest, traceparent: str) -> func.HttpResponse:
            app = await get_app()
            query = checked_query(route, request)
            return await handle(Request(app, request, traceparent, query))

        return routed(bp, route)(answer)

    return put


def endpoint(bp: func.Blueprint, route: Route) -> Callable[[Handler], Function]:
    """Register a function for callers with an API key."""
    return _register(bp, route, frozenset({"client", "operator"}))


def operator_endpoint(bp: func.Blueprint, route: Route) -> Callable[[Handler], Function]:
    """Register a function for keys of the role ``operator``; other keys get 403."""
    return _register(bp, route, frozenset({"operator"}))


def _register(
    bp: func.Blueprint, route: Route, roles: Collection[Role]
) -> Callable[[Handler], Function]:
    def put(handle: Handler) -> Function:
        @functools.wraps(handle)
        async def answer(request: func.HttpRequest, traceparent: str) -> func.HttpResponse:
            app = await get_app()
            principal = await authenticated(app, request)
            if principal.role not in roles:
                raise Problem(
                    403,
                    "forbidden",
                    "This needs an operator's key: qlp keys create --tenant … --role operator",
                )
            query = checked_query(route, request)
            return await handle(AuthenticatedRequest(app, request, traceparent, query, principal))

        return routed(bp, route)(answer)

    return put


def checked_query(route: Route, request: func.HttpRequest) -> dict[str, str]:
    """The query parameters, after checking them and the body against the route.

    Raises:
        Problem: 400: a parameter is wrong, or there is a body where none is expected; 411 or 415:
            the body was sent in chunks, or is compressed.
    """
    query = route.read_query(request.url)
    if route.body:
        check_body_is_whole(request)
    else:
        check_no_body(request)
    return query


def _server_error(error: Exception, function: str, traceparent: str) -> Problem:
    """What the client is told of an error on our side; the details are logged."""
    if reason := reason_to_wait(error):
        logger.error("%s: %s", function, reason)
        outage = outage_of(error)
        what = f"The database {outage.problem}." if outage else "The service is not configured."
        headers = {"Retry-After": RETRY_AFTER_SECONDS}
        return Problem(503, "unavailable", f"{what} Try again soon.", headers=headers)
    logger.error("unexpected error in %s", function, exc_info=error)
    return Problem(
        500,
        "internal-error",
        "Something went wrong on our side; the trace id identifies it in our logs.",
        traceId=traceparent.split("-")[1],
    )


def has_credentials(request: func.HttpRequest) -> bool:
    """Whether the request brings an API key, valid or not."""
    return bool(request.headers.get("x-api-key") or bearer(request))


async def authenticated(app: App, request: func.HttpRequest) -> Principal:
    """The caller, by the request's API key.

    Raises:
        Problem: 401: there is no valid key; 400: there are several.
    """
    key = singleton(request, "X-API-Key") or bearer(request)
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
    if scheme.lower() != "bearer":
        return None
    singleton(request, "Authorization")
    return credentials.strip() or None


def unauthenticated(detail: str, realm: str = "qlp") -> Problem:
    """The problem of a request whose sender did not prove who they are."""
    return Problem(
        401, "unauthenticated", detail, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'}
    )


def parse_body(
    request: func.HttpRequest,
    model: type[Model],
    max_bytes: int | None = None,
    max_nodes: int = MAX_NODES,
    *,
    ignore_unknown: bool = False,
) -> Model:
    """The request body as ``model``.

    Args:
        request: the request.
        model: what the body must be.
        max_bytes: see `json_body`.
        max_nodes: values and keys in the body, at most.
        ignore_unknown: see `domain.contracts.strict_json.read_as`.

    Raises:
        Problem: what `json_body` raises; 400: malformed or out of bounds.
    """
    body = json_body(request, max_bytes)
    try:
        return read_as(model, body, max_nodes=max_nodes, ignore_unknown=ignore_unknown)
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
