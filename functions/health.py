"""GET /health: whether the application works, and if not, why."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import azure.functions as func

from domain.access.store import Role
from domain.app import App, get_app
from domain.health import PartHealth, overall
from domain.retry import reason_to_wait, within
from functions.http import authenticated, checked_query, has_credentials, json_response, routed
from functions.routes import Route

logger = logging.getLogger(__name__)

bp = func.Blueprint()

#: How long looking up a key may take; after that, the database counts as not answering. Seconds.
_KEY_SECONDS = 2.0

_ROUTE = Route("health", "GET", "health")

#: Only operators see the reasons and the sandbox host's report: they name hosts, addresses and
#: what went wrong for others.
_REASON, _REPORT = "problem", "sandbox"


@routed(bp, _ROUTE)
async def health(request: func.HttpRequest, traceparent: str) -> func.HttpResponse:
    """200 while intents are accepted, 503 while not.

    Without a key, such as a load balancer, callers see only the status; clients also see the status
    and figures of each part; operators also the reasons and the fixes.
    """
    checked_query(_ROUTE, request)
    try:
        app = await get_app()
        role = await _role_of(app, request)
    except Exception as error:
        slow = "the database does not answer" if isinstance(error, TimeoutError) else None
        if (reason := slow or reason_to_wait(error)) is None:
            raise
        logger.error("not healthy: %s", reason)
        return json_response({"status": "failed"}, 503)
    checks = await app.health.report()
    status = overall(checks.values())
    body: dict[str, Any] = {"status": status}
    if role is not None:
        body["checks"] = {name: _shown(name, check, role) for name, check in checks.items()}
    return json_response(body, 503 if status == "failed" else 200)


async def _role_of(app: App, request: func.HttpRequest) -> Role | None:
    """The role of the request's key; None if there is no key."""
    if not has_credentials(request):
        return None
    return (await within(_KEY_SECONDS, authenticated(app, request))).role


def _shown(name: str, check: PartHealth, role: Role) -> Mapping[str, Any]:
    detail = check.detail
    if role != "operator":
        detail = {} if name == _REPORT else {k: v for k, v in detail.items() if k != _REASON}
    return {**detail, "status": check.status}
