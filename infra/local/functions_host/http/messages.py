"""Converts HTTP requests to a function's argument, and its result to a response.

Requests are converted like the host's GrpcMessageConversionExtensions.ToRpcHttp does it, responses
by the worker's own converter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from azure.functions.http import HttpRequest
from multidict import CIMultiDict

from infra.local.functions_host.converters import converter

_ENCODE = converter("http").encode

# The server sets these itself; values from a function could allow response splitting.
_FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive"})

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, token
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

MAX_QUERY_FIELDS = 1024  # ASP.NET's FormOptions.DefaultValueCountLimit


class UnacceptableRequestError(Exception):
    """The request cannot be passed to a function; the client gets 400."""


def function_request(
    request: web.BaseRequest, body: bytes, route_values: Mapping[str, str]
) -> HttpRequest:
    """Return the ``func.HttpRequest`` for a request.

    Header names are in lower case; repeated headers and query fields are joined by commas; query
    fields with an empty value are dropped.
    """
    raw_path = request.raw_path
    _, _, query = raw_path.partition("?")
    return HttpRequest(
        request.method,
        f"{request.scheme}://{request.headers.get('Host', '')}{raw_path}"
        if raw_path.startswith("/")
        else raw_path,
        headers=_headers(request),
        params=_query(query) if query else {},
        route_params=route_values,
        body_type="bytes",
        body=body,
    )


def _headers(request: web.BaseRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # aiohttp keeps bytes that are not UTF-8 as surrogates
                raise UnacceptableRequestError(f"the header {name} is not UTF-8") from None
    return headers


def _query(query: str) -> dict[str, str]:
    try:
        fields = parse_qsl(query, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise UnacceptableRequestError(f"more than {MAX_QUERY_FIELDS} query fields") from None
    spelling: dict[str, str] = {}
    params: dict[str, str] = {}
    for name, value in fields:
        key = spelling.setdefault(name.lower(), name)
        params[key] = f"{params[key]},{value}" if key in params else value
    return params


def web_response(result: object) -> web.Response:
    """Return the response for a function's result.

    The worker accepts ``str`` (text/plain, 200) and ``func.HttpResponse``. Anything else, None
    included, raises TypeError, as does an invalid status code.
    """
    try:
        encoded = _ENCODE(result, expected_type=None)
    except NotImplementedError:
        raise TypeError(
            f"an HTTP function must return func.HttpResponse or str, not {type(result).__name__}"
        ) from None
    if encoded.type == "string":
        return web.Response(text=encoded.value)
    return _http_response(encoded.value)


def _http_response(value: Mapping[str, Any]) -> web.Response:
    status = value["status_code"].value
    if not status.isdigit() or not 200 <= int(status) <= 999:
        raise TypeError(f"status_code must be a number from 200 to 999, got {status!r}")
    headers: CIMultiDict[str] = CIMultiDict()
    for name, header in value["headers"].items():
        if name.lower() not in _FRAMING_HEADERS:
            headers[name] = str(header.value)
    for cookie in value["cookies"] or ():
        for morsel in cookie.values():
            headers.add("Set-Cookie", morsel.OutputString())
    for name, text in headers.items():
        if not _HEADER_NAME.match(name) or _CONTROL.search(text):
            raise ValueError(f"the response header {name!r} has characters that are not allowed")
    return web.Response(body=value["body"].value, status=int(status), headers=headers)
