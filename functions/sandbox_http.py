"""HTTP functions for sandbox hosts: heartbeats, artifacts too large for a message, and inputs.

A host has no API key. It authenticates for one run at a time, with the token in that run's job, and
only until the run's end is recorded.
"""

from __future__ import annotations

from uuid import UUID

import azure.functions as func
from pydantic import ConfigDict, TypeAdapter, ValidationError

from domain.contracts.heartbeat import (
    ARTIFACT_ROUTE,
    HEARTBEAT_ROUTE,
    INPUT_ROUTE,
    MAX_HEARTBEAT_NODES,
    RUN_HEADER,
    RUN_REALM,
    Heartbeat,
)
from domain.contracts.job import MAX_ARTIFACT_BYTES, Sha256
from domain.runs.artifacts import UploadLimitExceeded, WrongHash
from domain.runs.inputs import InputGone, NoSuchInput
from domain.runs.status import RunStatus
from domain.runs.tokens import RunOwner
from domain.telemetry import security_event
from functions.http import (
    Request,
    bearer,
    json_response,
    parse_body,
    public_endpoint,
    unauthenticated,
)
from functions.lookup import parse_uuid
from functions.problems import Problem
from functions.routes import Route

bp = func.Blueprint()

#: Largest heartbeat, bytes: one run may send 128 Ki characters, each escaped to six bytes.
MAX_HEARTBEAT_BYTES = 1024 * 1024

_SHA256: TypeAdapter[str] = TypeAdapter(Sha256, config=ConfigDict(regex_engine="python-re"))


@public_endpoint(bp, Route("sandbox_heartbeat", "POST", HEARTBEAT_ROUTE, body=True))
async def sandbox_heartbeat(request: Request) -> func.HttpResponse:
    """POST /sandbox/heartbeat: takes live output; answers with orders to continue or to kill."""
    _authenticated(request, _id(request.http.headers.get(RUN_HEADER, "")))
    # A newer host may send more fields.
    heartbeat = parse_body(
        request.http, Heartbeat, MAX_HEARTBEAT_BYTES, MAX_HEARTBEAT_NODES, ignore_unknown=True
    )
    orders = await request.app.heartbeats.take(heartbeat)
    return json_response(orders.model_dump(mode="json"))


@public_endpoint(bp, Route("sandbox_upload_artifact", "PUT", ARTIFACT_ROUTE, body=True))
async def upload_artifact(request: Request) -> func.HttpResponse:
    """PUT /sandbox/runs/{run_id}/artifacts/{sha256}: 204, also if it had been uploaded before."""
    sha256 = _sha256(request.http.route_params.get("sha256", ""))
    owner, run = await _awaited_run(request)
    content = request.http.get_body() or b""
    if len(content) > MAX_ARTIFACT_BYTES:
        raise Problem(
            413,
            "too-large",
            f"The body has {len(content)} bytes, the limit is {MAX_ARTIFACT_BYTES}.",
        )
    try:
        await request.app.artifacts.upload(
            owner.tenant_id, run.run_id, sha256, content, run.artifact_bytes
        )
    except WrongHash as error:
        raise Problem(400, "invalid-request", f"body: {error}") from None
    except UploadLimitExceeded as error:
        raise Problem(413, "too-large", f"artifact_bytes: {error}") from None
    return func.HttpResponse(status_code=204)


@public_endpoint(bp, Route("sandbox_get_input", "GET", INPUT_ROUTE))
async def get_input(request: Request) -> func.HttpResponse:
    """GET /sandbox/runs/{run_id}/inputs/{sha256}: another step's artifact that the run needs."""
    sha256 = _sha256(request.http.route_params.get("sha256", ""))
    owner, run = await _awaited_run(request)
    try:
        content = await request.app.run_inputs.content(owner, run.run_id, sha256)
    except NoSuchInput as error:
        raise Problem(404, "not-found", f"sha256: {error}.") from None
    except InputGone as error:
        raise Problem(410, "gone", f"sha256: {error}.") from None
    return func.HttpResponse(content, mimetype="application/octet-stream")


async def _awaited_run(request: Request) -> tuple[RunOwner, RunStatus]:
    """The run that the request's token is for, if its result is still awaited."""
    run_id = _id(request.http.route_params.get("run_id", ""))
    if run_id is None:
        raise Problem(400, "invalid-request", "run_id: must be a UUID")
    owner = _authenticated(request, run_id)
    runs = (await request.app.run_statuses.of([owner.intent_id])).get(owner.intent_id)
    run = runs.awaited(run_id, owner.tenant_id) if runs is not None else None
    if run is None:
        raise Problem(
            409, "run-ended", "The end of this run is recorded; its token is no longer valid."
        )
    return owner, run


def _authenticated(request: Request, run_id: UUID | None) -> RunOwner:
    """The owner of the run that the request's token is for."""
    token = bearer(request.http)
    if run_id is None or token is None:
        raise unauthenticated(
            f"Send a run's token as bearer token, and the run's id in {RUN_HEADER}."
        )
    owner = request.app.tokens.owner_of(token, run_id)
    if owner is None:
        security_event("failed_authentication", door="run", run=str(run_id))
        raise unauthenticated("The bearer token is not valid for this run.", RUN_REALM)
    return owner


def _id(raw: str) -> UUID | None:
    try:
        return parse_uuid(raw)
    except ValueError:
        return None


def _sha256(raw: str) -> str:
    try:
        return _SHA256.validate_python(raw)
    except ValidationError:
        raise Problem(
            400, "invalid-request", "sha256: must be 64 hexadecimal digits, lower case"
        ) from None
