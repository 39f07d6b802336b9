"""GET /health: whether the application can do its work, and why not."""

from __future__ import annotations

import azure.functions as func

from domain.app import get_app
from domain.database import UNAVAILABLE
from domain.eventlog.migrate import SchemaOutOfDate
from domain.settings import InvalidSettings
from functions.http import json_response

bp = func.Blueprint()


@bp.function_name("health")
@bp.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:
    """200 while intents are accepted, 503 while not; details name the part and the fix."""
    try:
        app = await get_app()
    except (InvalidSettings, SchemaOutOfDate) as error:
        return json_response({"status": "failed", "problem": str(error)}, 503)
    except UNAVAILABLE:
        return json_response({"status": "failed", "problem": "the database does not answer"}, 503)
    checks = await app.health.report()
    statuses = {check.status for check in checks.values()}
    status = next(word for word in ("failed", "degraded", "ok") if word in statuses)
    body = {
        "status": status,
        "checks": {name: {**c.detail, "status": c.status} for name, c in checks.items()},
    }
    return json_response(body, 503 if status == "failed" else 200)
