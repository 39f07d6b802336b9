"""HTTP functions for people: a program's output as text, and the whole result as a page.

The page contains everything: a browser cannot send an API key to load an image, and a page that is
saved or mailed stays complete.
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

#: Most bytes of all pictures in a page together; those that do not fit are only listed.
MAX_PICTURE_BYTES = 8 * 1024**2

_STREAMS = frozenset({"stdout", "stderr"})


@endpoint(bp, Route("get_result", "GET", "intents/{id}/result"))
async def get_result(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/result: a page with its sentence, output, pictures and list of files."""
    row = await intent_row(request)
    pictures: list[Picture] = []
    left = MAX_PICTURE_BYTES
    for artifact in artifacts_of(row):
        if artifact["size"] > left or not artifact["media_type"].startswith("image/"):
            continue
        content = await request.app.artifacts.content(row.tenant_id, artifact["sha256"])
        if content is not None and (kind := picture_type(artifact["media_type"], content)):
            pictures.append(Picture(artifact["name"], kind, content))
            left -= len(content)
    headers = {**SAFE, "Content-Security-Policy": POLICY, "Cache-Control": "private, no-cache"}
    page = result_page(row, artifacts_of(row), pictures)
    return func.HttpResponse(page, headers=headers, mimetype="text/html", charset="utf-8")


@endpoint(bp, Route("get_printed", "GET", "intents/{id}/result/{stream}"))
async def get_printed(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/result/stdout and …/stderr: the output as plain text."""
    stream = request.http.route_params.get("stream", "")
    if stream not in _STREAMS:
        raise Problem(404, "not-found", "There is no such output; there are stdout and stderr.")
    row = await intent_row(request)
    if row.outcome is None:
        raise Problem(
            409,
            "not-finished",
            f"The intent is {row.status}. Wait for its end with Prefer: wait=N, or read its output "
            f"at /api/intents/{row.id}/output.",
        )
    headers = {**SAFE, "Cache-Control": "private, no-cache"}
    if row.outcome.get(f"{stream}_truncated"):
        headers["X-Truncated"] = "true"
    text = str(row.outcome.get(stream) or "")
    return func.HttpResponse(text, headers=headers, mimetype="text/plain", charset="utf-8")
