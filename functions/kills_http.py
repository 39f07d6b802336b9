"""The HTTP function for operators who end a program."""

from __future__ import annotations

from typing import Annotated

import azure.functions as func
from pydantic import BaseModel, ConfigDict, Field

from domain.intents.content import NO_NUL
from domain.intents.refusals import IntentNotFound, NothingRuns
from functions.http import AuthenticatedRequest, json_response, operator_endpoint, parse_body
from functions.lookup import intent_id_of, no_intent
from functions.problems import Problem
from functions.routes import Route

bp = func.Blueprint()


class KillRequest(BaseModel):
    """Body of a kill: why, for the record."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=1000), NO_NUL] | None = None


@operator_endpoint(bp, Route("operate_kill_run", "POST", "operations/intents/{id}/kill", body=True))
async def kill_run(call: AuthenticatedRequest) -> func.HttpResponse:
    """POST /operations/intents/{id}/kill: has the open runs killed; 409 where nothing runs."""
    body = parse_body(call.request, KillRequest) if call.request.get_body() else KillRequest()
    intent_id = intent_id_of(call)
    try:
        killed = await call.app.service.kill(
            call.principal.tenant_id,
            intent_id,
            f"key {call.principal.key_id}",
            body.reason,
            traceparent=call.traceparent,
        )
    except IntentNotFound:
        raise no_intent(str(intent_id)) from None
    except NothingRuns as error:
        raise Problem(409, "nothing-runs", f"{error}.") from None
    return json_response({"intent_id": intent_id, "runs": killed}, 202)
