"""The HTTP function for clients who watch a program's output while it runs.

Chunks are fetched by long polling, not server-sent events: the Python worker can only return whole
responses, and the extension for streaming changes the request type of every HTTP function.
"""

from __future__ import annotations

from asyncio import get_running_loop

import azure.functions as func

from domain.intents.state import Status
from domain.projections.intents import IntentRow
from domain.runs.output import Watched
from functions.http import AuthenticatedRequest, endpoint, json_response
from functions.lookup import intent_row
from functions.parameters import number_parameter, seconds_parameter
from functions.problems import invalid_parameter
from functions.routes import Route

bp = func.Blueprint()

_BEFORE_RUNS = frozenset({Status.SUBMITTED.value, Status.PLANNED.value})


@endpoint(bp, Route("get_output", "GET", "intents/{id}/output", query=("after", "run", "wait")))
async def get_output(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/output: the output so far; with ``wait``, waits until there is more."""
    after = number_parameter(request.query, "after", default=-1, low=0, high=2**31 - 1)
    wait = seconds_parameter(request.query, "wait")
    deadline = get_running_loop().time() + wait
    row = await intent_row(request)
    if wait and row.status in _BEFORE_RUNS:
        await request.app.watcher.wait(row.id, lambda _, status: status not in _BEFORE_RUNS, wait)
    run = await _run(request, row)
    if run is None:
        ended = row.completed_at is not None
        return json_response({"run_id": None, "items": [], "next_after": None, "ended": ended})
    output = request.app.run_output
    progress = await output.progress(run)
    left = deadline - get_running_loop().time()
    if left > 0 and not progress.ended and progress.last_seq <= after:
        await output.wait(run, after, left)
        progress = await output.progress(run)
    chunks = await output.after(run.run_id, after)
    last = chunks[-1].seq if chunks else after
    return json_response(
        {
            "run_id": run.run_id,
            "items": [chunk.model_dump() for chunk in chunks],
            "next_after": last if last >= 0 else None,
            "ended": progress.ended and last >= progress.last_seq,
        }
    )


async def _run(request: AuthenticatedRequest, row: IntentRow) -> Watched | None:
    """The run that the parameter ``run`` names, else the latest; None if there is none yet."""
    raw = request.query.get("run")
    runs = (await request.app.run_statuses.of([row.id])).get(row.id)
    if raw is None:
        return None if runs is None else Watched(runs.latest.run_id, row.id)
    known = {str(run.run_id): run.run_id for run in runs.runs} if runs is not None else {}
    if raw.lower() not in known:
        raise invalid_parameter("run", "must be the id of a run of this intent")
    return Watched(known[raw.lower()], row.id)
