"""HTTP functions that find intents similar to another intent, or to any sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import azure.functions as func
from pydantic import (
    BeforeValidator,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
)

from domain.application.details import detailed
from domain.contracts.strict_json import NullIs, Time
from domain.intents.content import MAX_TEXT_CHARACTERS, NO_NUL, Language
from domain.intents.state import Status
from domain.similarity.embedder import EmbeddingUnavailable
from domain.similarity.search import MAX_SIMILAR, Conditions, Found
from functions.bodies import Body
from functions.http import AuthenticatedRequest, endpoint, json_response, parse_body
from functions.lookup import intent_row
from functions.parameters import decimal_parameter, number_parameter, time_parameter
from functions.problems import Problem, invalid_field, invalid_fields
from functions.routes import Route

bp = func.Blueprint()

#: ``Retry-After`` if the provider does not say when it will be available; seconds.
_RETRY_SECONDS = 15


#: Defaults: the number of results, and their least similarity.
_LIMIT, _ANY = 5, -1.0


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Filters(Body):
    """What both functions take.

    Attributes:
        status: one status, or several, any of which may match.
        created_after: created at that time or later.
        created_before: created before that time.
        language: the program's language.
        limit: at most this many.
        threshold: the least cosine similarity.
    """

    status: Annotated[
        list[Status] | None,
        Field(min_length=1, max_length=len(Status)),
        FailFast(),
        BeforeValidator(_one_or_many),
    ] = None
    created_after: Time | None = None
    created_before: Time | None = None
    language: Language | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_SIMILAR), NullIs(_LIMIT)] = _LIMIT
    threshold: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False), NullIs(_ANY)] = _ANY

    def conditions(self) -> Conditions:
        """The conditions, as the search takes them."""
        return Conditions(
            statuses=None if self.status is None else [each.value for each in self.status],
            created_after=self.created_after,
            created_before=self.created_before,
            language=self.language,
            threshold=self.threshold,
        )


class SearchRequest(Filters):
    """Body of a search."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARACTERS), NO_NUL]


@endpoint(bp, Route("search_intents", "POST", "intents/search", body=True))
async def search_intents(request: AuthenticatedRequest) -> func.HttpResponse:
    """POST /intents/search: the tenant's intents most similar to a sentence."""
    body = parse_body(request.http, SearchRequest)
    try:
        found = await request.app.search.by_text(
            request.principal.tenant_id, body.text, body.limit, body.conditions()
        )
    except EmbeddingUnavailable as error:
        raise _no_vector(error) from None
    except ValueError:
        raise invalid_field("/text", "has no words to compare; give a sentence") from None
    return await _answer(request, found)


@endpoint(
    bp,
    Route(
        "similar_intents",
        "GET",
        "intents/{id}/similar",
        query=("status", "created_after", "created_before", "language", "limit", "threshold"),
    ),
)
async def similar_intents(request: AuthenticatedRequest) -> func.HttpResponse:
    """GET /intents/{id}/similar: the tenant's other intents most similar to this one.

    There are none if the intent has only a program, and no sentence to compare.
    """
    filters = _filters(request.query)
    row = await intent_row(request)
    if not row.user_input:
        return json_response({"model": None, "items": []})
    try:
        found = await request.app.search.by_intent(row, filters.limit, filters.conditions())
    except EmbeddingUnavailable as error:
        raise _no_vector(error) from None
    except ValueError:
        return json_response({"model": None, "items": []})
    return await _answer(request, found)


def _filters(query: Mapping[str, str]) -> Filters:
    given: dict[str, Any] = {
        "status": query["status"].split(",") if "status" in query else None,
        "created_after": time_parameter(query, "created_after"),
        "created_before": time_parameter(query, "created_before"),
        "language": query.get("language"),
        "limit": number_parameter(query, "limit", default=_LIMIT, low=1, high=MAX_SIMILAR),
        "threshold": decimal_parameter(query, "threshold"),
    }
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return Filters.model_validate(given)
    except ValidationError as error:
        raise invalid_fields(error) from None


async def _answer(request: AuthenticatedRequest, found: Found) -> func.HttpResponse:
    intents = await detailed(request.app.repository, [item.intent for item in found.items])
    items: Sequence[dict[str, Any]] = [
        {
            "similarity": round(item.similarity, 6),
            "intent": intent.summary(),
            "links": {
                "self": f"/api/intents/{intent.id}",
                "similar": f"/api/intents/{intent.id}/similar",
            },
        }
        for item, intent in zip(found.items, intents, strict=True)
    ]
    return json_response({"model": found.model, "items": items})


def _no_vector(error: EmbeddingUnavailable) -> Problem:
    """The problem of a sentence whose vector is neither stored nor available now."""
    if error.kind == "text":
        return invalid_field("/text", "the embedding model refuses it; rephrase it")
    wait = round(error.retry_after or _RETRY_SECONDS)
    return Problem(
        503,
        "embedder-unavailable",
        f"text: its vector is not available now ({error}). Try again later; sentences of earlier "
        "intents can be searched at any time.",
        headers={"Retry-After": str(max(wait, 1))},
    )
