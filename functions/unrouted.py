"""The HTTP function for requests that no other function answers.

Its route matches every path. Hosts try functions in the order of their names, so its name must be
the last. Paths outside of ``/api`` are the host's.
"""

from __future__ import annotations

import azure.functions as func

from functions.http import answered
from functions.routes import nothing_at

bp = func.Blueprint()


async def _refuse(request: func.HttpRequest, traceparent: str) -> func.HttpResponse:
    raise nothing_at(request.method, request.route_params.get("path", ""))


# Without ``methods``, it takes all of them.
unrouted = bp.function_name("unrouted")(
    bp.route(route="{*path}", auth_level=func.AuthLevel.ANONYMOUS)(answered(_refuse))
)
