"""RFC 9457 problem details, the form of every error that clients see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import azure.functions as func
import orjson
from pydantic import ValidationError

from domain.contracts.redaction import redact
from domain.contracts.validation import detail, location

_URN = "urn:qlp:problem:"


class Problem(Exception):
    """An error that is shown to the client.

    Args:
        status: HTTP status, 4xx or 5xx.
        name: its stable name, for programs.
        detail: what is wrong with this request, and how to fix it.
        headers: additional response headers.
        members: additional members of the problem body.
    """

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,  # noqa: ANN401 extension members are free by RFC 9457
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> func.HttpResponse:
        """The ``application/problem+json`` response."""
        body = {
            "type": _URN + self.name,
            "title": self.name.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        return func.HttpResponse(
            redact(orjson.dumps(body).decode()),
            status_code=self.status,
            headers=self.headers,
            mimetype="application/problem+json",
        )


def invalid_request(detail: str) -> Problem:
    """The problem of a request that is wrong, but not in a parameter or a field of its body."""
    return Problem(400, "invalid-request", detail)


def invalid_parameter(name: str, detail: str) -> Problem:
    """The problem of a query parameter."""
    errors = [{"pointer": _pointer([name]), "detail": detail}]
    return Problem(400, "invalid-request", f"{name}: {detail}", errors=errors)


def invalid_fields(error: ValidationError) -> Problem:
    """The problem of a body that breaks its schema: every wrong field, and why (at most 20).

    A list or object that is only wrong because of something within it is left out.
    """
    found = error.errors(include_input=False, include_url=False)
    around = {item["loc"][:depth] for item in found for depth in range(len(item["loc"]))}
    errors = [
        {"pointer": _pointer(item["loc"]), "detail": detail(item)}
        for item in found
        if item["loc"] not in around
    ]
    first = errors[0]
    return Problem(
        400,
        "invalid-request",
        f"{first['pointer'] or 'body'}: {first['detail']}",
        errors=errors[:20],
    )


def invalid_field(pointer: str, detail: str) -> Problem:
    """The problem of a field that is well-formed, but cannot be accepted; named by JSON Pointer."""
    return Problem(
        400,
        "invalid-request",
        f"{pointer}: {detail}",
        errors=[{"pointer": pointer, "detail": detail}],
    )


def _pointer(names: Sequence[str | int]) -> str:
    """A JSON Pointer (RFC 6901)."""
    parts = (part.replace("~", "~0").replace("/", "~1") for part in location(names))
    return "".join(f"/{part}" for part in parts)
