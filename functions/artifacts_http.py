"""HTTP functions for clients: the files that an intent's program has written.

Their content is not trusted: it is sent so that no browser runs it, or guesses its media type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import azure.functions as func

from domain.projections.intents import IntentRow
from domain.runs.media_types import shown_as
from functions.headers import etags
from functions.http import AuthenticatedRequest, endpoint, json_response
from functions.lookup import intent_row
from functions.presenting import shown_intent
from functions.problems import Problem, invalid_parameter
from functions.ranges import Unsatisfiable, wanted_part
from functions.routes import Route

bp = func.Blueprint()

#: Headers that keep untrusted content from being run, from loading anything, and from being taken
#: for another type. An SVG image may have styles of its own.
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "private, max-age=3600",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


@endpoint(bp, Route("list_artifacts", "GET", "intents/{id}/artifacts", query=("step",)))
async def list_artifacts(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/artifacts: the files of its result, and which of them are still kept.

    With ``step``, the files of that step of its plan.
    """
    row = await intent_row(request)
    found = artifacts_of(row, request.query.get("step"))
    available = await request.app.artifacts.available(
        row.tenant_id, {each["sha256"] for each in found}
    )
    items = [{**each, "available": each["sha256"] in available} for each in found]
    return json_response({"items": items})


# Two parameters, because a catch-all alone would match the address of the list too.
@endpoint(
    bp,
    Route(
        "get_artifact",
        "GET",
        "intents/{id}/artifacts/{first}/{*rest}",
        query=("step", "inline"),
        head=True,
    ),
)
async def get_artifact(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/artifacts/{name}: a file's content, or a part of it.

    410 once it has expired. For HEAD, the host sends only the headers.
    """
    inline = _inline(request.query)
    row = await intent_row(request)
    name = _name(request.http)
    artifacts = artifacts_of(row, request.query.get("step"))
    found = next((each for each in artifacts if each["name"] == name), None)
    if found is None:
        raise Problem(404, "not-found", f"This intent has no artifact {name[:255]!r}.")
    media_type, etag = found["media_type"], f'"{found["sha256"]}"'
    if _matches(request.http.headers.get("if-none-match"), etag):
        return func.HttpResponse(status_code=304, headers={**SAFE, "ETag": etag})
    content = await request.app.artifacts.content(row.tenant_id, found["sha256"])
    if content is None:
        raise Problem(410, "gone", f"The content of {name!r} has expired and is deleted.")
    shown_type = shown_as(media_type, content) if inline else None
    headers = {
        **SAFE,
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(name, shown_type is not None),
    }
    part = _part(request.http, etag, len(content))
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(content)}"
        content = content[part.start : part.stop]
    return func.HttpResponse(
        content,
        status_code=200 if part is None else 206,
        headers=headers,
        mimetype=shown_type or media_type,
        charset="utf-8",
    )


def _part(request: func.HttpRequest, etag: str, size: int) -> range | None:
    header = request.headers.get("range") if request.method == "GET" else None
    if header is None or request.headers.get("if-range", etag) != etag:
        return None
    try:
        return wanted_part(header, size)
    except Unsatisfiable:
        raise Problem(
            416,
            "range-not-satisfiable",
            f"Range: the file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        ) from None


def artifacts_of(row: IntentRow, step: str | None = None) -> list[dict[str, Any]]:
    """The artifacts of an intent's result, or of a step of its plan, as clients see them.

    Raises:
        Problem: 404: its plan has no such step.
    """
    outcome = shown_intent(row.document())["outcome"] or {}
    if step is not None:
        steps = (each for each in outcome.get("steps", ()) if each["name"] == step)
        outcome = next(steps, None)
        if outcome is None:
            raise Problem(404, "not-found", f"step: this intent's plan has no step {step[:64]!r}.")
    artifacts: list[dict[str, Any]] = outcome.get("artifacts", [])
    return artifacts


def _inline(query: Mapping[str, str]) -> bool:
    raw = query.get("inline", "0")
    if raw not in ("0", "1"):
        raise invalid_parameter("inline", "must be 0 or 1")
    return raw == "1"


def _name(request: func.HttpRequest) -> str:
    first, rest = request.route_params.get("first", ""), request.route_params.get("rest", "")
    return f"{first}/{rest}" if rest else str(first)


def _matches(header: str | None, etag: str) -> bool:
    """``If-None-Match`` (RFC 9110, section 13.1.2), where weak and strong tags compare alike."""
    return header is not None and (header.strip() == "*" or etag in etags(header))


def _disposition(path: str, inline: bool) -> str:
    """RFC 6266, with the last part of the path in plain ASCII and, by RFC 8187, as it is."""
    name = path.rpartition("/")[2]
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
