"""Checks request bodies: whether one may come, its size and its encoding.

Azure's host passes on only bodies with a Content-Length: of a chunked body, the worker sees the
header ``Transfer-Encoding`` and no content (``ToRpcHttp`` of azure-functions-host). The host of the
local stack does the same. Such a body must not be taken for an empty one.
"""

from __future__ import annotations

import re
from typing import Any, cast

import azure.functions as func
from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from domain.contracts.strict_json import other_encoding
from domain.contracts.validation import no_other_fields
from functions.problems import Problem, invalid_request

#: Largest request body, bytes. Limits on the content itself are tighter, and more exact.
MAX_BODY_BYTES = 256 * 1024

#: The same for a body whose characters are written as escapes (``\u00e9`` for é), as most libraries
#: do by default; escapes take up to three times the bytes of UTF-8.
MAX_ESCAPED_BODY_BYTES = 3 * MAX_BODY_BYTES

_SHOWN_CHARACTERS = 64


class Body(BaseModel):
    """Base of bodies: refuses unknown fields, and says which there are."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Called by pydantic."""
        whole: Any = handler(source)
        inner = whole["schema"]
        inner.update(extra_behavior="allow", extras_schema=no_other_fields(inner["fields"]))
        return cast("CoreSchema", whole)


_NAME = "[!#$&^_.+a-z0-9-]+"
_MEDIA_TYPE = re.compile(rf"application/json|{_NAME}/{_NAME}\+json")
_CHARSET = re.compile(r';[ \t]*charset[ \t]*=[ \t]*"?([^";]*)', re.IGNORECASE)
_UTF8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


def check_no_body(request: func.HttpRequest) -> None:
    """Refuse a body where none is expected: it would be ignored silently.

    Raises:
        Problem: 400: there is one.
    """
    if request.get_body() or request.headers.get("transfer-encoding"):
        raise invalid_request(f"body: {request.method} takes no body here; leave it out")


def check_body_is_whole(request: func.HttpRequest) -> None:
    """Refuse a body that does not reach the function as the client wrote it.

    Raises:
        Problem: 411: it was sent in chunks; 415: it is compressed.
    """
    if request.headers.get("transfer-encoding"):
        raise Problem(
            411,
            "length-required",
            "body: was sent in chunks (Transfer-Encoding); send it with a Content-Length.",
        )
    coding = request.headers.get("content-encoding", "").strip()
    if coding.lower() not in ("", "identity"):
        raise Problem(
            415,
            "unsupported-media-type",
            f"Content-Encoding: {coding[:_SHOWN_CHARACTERS]!r} is not supported; "
            "send the body uncompressed, without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )


def json_body(request: func.HttpRequest, max_bytes: int | None = None) -> bytes:
    """The bytes of a JSON body in UTF-8, judged by its headers and its first bytes.

    Args:
        request: must have passed `check_body_is_whole`.
        max_bytes: the limit; by default `MAX_BODY_BYTES`, or `MAX_ESCAPED_BODY_BYTES` if characters
            are written as escapes.

    Raises:
        Problem: 413: too large; 415: its headers say that it is something else; 400: it is in
            another encoding.
    """
    _check_content_type(request.headers.get("content-type", ""))
    body: bytes = request.get_body() or b""
    if max_bytes is None:
        _check_size(_size_unescaped(body), MAX_BODY_BYTES)
        max_bytes = MAX_ESCAPED_BODY_BYTES
    _check_size(len(body), max_bytes)
    if other := other_encoding(body):
        raise invalid_request(f"body: is encoded as {other}; send UTF-8 without a byte order mark")
    return body


def _check_content_type(header: str) -> None:
    media_type = header.partition(";")[0].strip().lower() or "application/json"
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise Problem(415, "unsupported-media-type", "Send the body as application/json.")
    for value in _CHARSET.findall(header):
        charset = value.strip()
        if charset.lower() not in _UTF8:
            raise Problem(
                415,
                "unsupported-media-type",
                f"Content-Type: the charset {charset[:_SHOWN_CHARACTERS]!r} is not supported; "
                "send JSON as UTF-8.",
            )


def _size_unescaped(body: bytes) -> int:
    """Bytes of the body if its escapes were written as UTF-8, or a little less.

    An escape of six bytes is counted as two, though some characters need three.
    """
    return len(body) - 4 * body.count(b"\\u") if len(body) > MAX_BODY_BYTES else len(body)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise Problem(413, "too-large", f"The body has {size} bytes, the limit is {limit}.")
