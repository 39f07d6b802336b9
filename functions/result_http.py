"""HTTP functions for people: what a program printed as text, and the whole result as a page.

The page holds everything: a browser cannot send an API key for a picture, and whoever saved the
page or mailed it on has all of it.
"""

from __future__ import annotations

import azure.functions as func

from domain.runs.media_types import picture_type
from functions.artifacts_http import SAFE, artifacts_of
from functions.http import AuthenticatedRequest, endpoint
from functions.lookup import intent_row
from functions.problems import Problem
from functions.result_page import POLICY, Picture, result_page
from functions.routes import Route

bp = func.Blueprint()

#: Bytes of all pictures in a page together; what does not fit is only named.
MAX_PICTURE_BYTES = 8 * 1024**2

_STREAMS = frozenset({"stdout", "stderr"})


@endpoint(bp, Route("get_result", "GET", "intents/{id}/result"))
async def get_result(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/result: a page with its sentence, output and pictures."""
    row = await intent_row(request)
    pictures: list[Picture] = []
    room = MAX_PICTURE_BYTES
    for artifact in artifacts_of(row):
        if artifact["size"] > room or not artifact["media_type"].startswith("image/"):
            continue
        content = await request.app.artifacts.content(row.tenant_id, artifact["sha256"])
        if content is not None and (kind := picture_type(artifact["media_type"], content)):
            pictures.append(Picture(artifact["name"], kind, content))
            room -= len(content)
    headers = {**SAFE, "Content-Security-Policy": POLICY, "Cache-Control": "private, no-cache"}
    page = result_page(row, artifacts_of(row), pictures)
    return func.HttpResponse(page, headers=headers, mimetype="text/html", charset="utf-8")


@endpoint(bp, Route("get_printed", "GET", "intents/{id}/result/{stream}"))
async def get_printed(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/result/stdout and …/stderr: what it printed, as it is."""
    stream = request.http.route_params.get("stream", "")
    if stream not in _STREAMS:
        raise Problem(404, "not-found", "A result has stdout and stderr.")
    row = await intent_row(request)
    if row.outcome is None:
        raise Problem(
            409,
            "not-finished",
            f"The intent is {row.status}; wait for its end with Prefer: wait=N, or follow it at "
            f"/api/intents/{row.id}/output.",
        )
    headers = {**SAFE, "Cache-Control": "private, no-cache"}
    if row.outcome.get(f"{stream}_truncated"):
        headers["X-Truncated"] = "true"
    text = str(row.outcome.get(stream) or "")
    return func.HttpResponse(text, headers=headers, mimetype="text/plain", charset="utf-8")
