"""The HTTP server: limits, routing, invocation and the host's own pages.

It is aiohttp's low-level server, without router and middlewares, which would take more time per
request than everything here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.host_json import HttpOptions
from infra.local.functions_host.http.messages import (
    UnacceptableRequestError,
    function_request,
    web_response,
)
from infra.local.functions_host.http.routes import Match, Router, decode_path
from infra.local.functions_host.invocation import FunctionFailedError, Invoker
from infra.local.functions_host.model import HostedFunction

logger = logging.getLogger(__name__)

#: Azure's default of FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: 100 MB.
DEFAULT_MAX_BODY_BYTES = 104_857_600

_HOME = "The local Azure Functions host is running.\n"

AdminHandler = Callable[[web.BaseRequest, str], Awaitable[web.Response]]


def max_body_bytes(environ: Mapping[str, str]) -> int:
    """Return FUNCTIONS_REQUEST_BODY_SIZE_LIMIT in bytes."""
    text = environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", str(DEFAULT_MAX_BODY_BYTES))
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 2**31 - 1):
        raise HostStartupError(
            f"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT must be a number of bytes, got {text!r}"
        )
    return int(text)


class HttpServer:
    """Answers all requests to the host."""

    def __init__(
        self,
        router: Router,
        invoker: Invoker,
        options: HttpOptions,
        max_body: int,
        admin: AdminHandler,
    ) -> None:
        self._router = router
        self._invoker = invoker
        self._max_outstanding = options.max_outstanding_requests
        self._outstanding = 0
        self._slots = (
            asyncio.Semaphore(options.max_concurrent_requests)
            if options.max_concurrent_requests > 0
            else None
        )
        self._max_body = max_body
        self._admin = admin
        self._warned_of_chunks = False

    def web_server(self) -> web.Server:
        """Return the aiohttp server; a client that disconnects does not cancel its handler."""
        return web.Server(
            self.handle,
            request_factory=self._make_request,
            handler_cancellation=False,
            auto_decompress=False,  # as ASP.NET, which passes on what was sent
            access_log=None,
            lingering_time=1.0,  # for a client that is still sending a refused body
            keepalive_timeout=130.0,  # Kestrel's KeepAliveTimeout
            max_field_size=32 * 1024,  # Kestrel's MaxRequestHeadersTotalSize
        )

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._max_body,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever the client or the function does."""
        target = request.raw_path
        if not target.startswith("/"):  # absolute-form, which servers must accept (RFC 9112)
            target = request.rel_url.raw_path
        path = decode_path(target.partition("?")[0])
        if path is None:
            return web.Response(status=400)
        first = path[1:].partition("/")[0].lower()
        if first == "admin":
            return await self._admin(request, path)
        match = self._router.match(request.method, path)
        if match is None:
            if path == "/" and request.method in {"GET", "HEAD"}:
                return web.Response(text=_HOME)
            return web.Response(status=404)
        if match.function is None:
            return web.Response(status=405, headers={hdrs.ALLOW: match.allow})
        if 0 <= self._max_outstanding <= self._outstanding:
            return web.Response(status=429)
        self._outstanding += 1
        try:
            return await self._within_limits(request, match.function, match)
        finally:
            self._outstanding -= 1

    async def _within_limits(
        self, request: web.BaseRequest, function: HostedFunction, match: Match
    ) -> web.Response:
        try:
            body = await self._read_body(request)
        except web.HTTPRequestEntityTooLarge:
            response = web.Response(status=413)
            response.force_close()  # the rest of the body is not read
            return response
        except web.RequestPayloadError:  # malformed chunks, or the client disconnected
            return web.Response(status=400)
        try:
            argument = function_request(request, body, match.values)
        except UnacceptableRequestError as error:
            return web.Response(status=400, text=str(error))
        if self._slots is None:
            return await self._invoke(request, function, argument)
        async with self._slots:
            return await self._invoke(request, function, argument)

    async def _invoke(
        self, request: web.BaseRequest, function: HostedFunction, argument: object
    ) -> web.Response:
        try:
            result = await self._invoker.run(function, argument, request.headers)
            return web_response(result)
        except FunctionFailedError:
            return web.Response(status=500)
        except (TypeError, ValueError):  # a result that cannot be a response
            logger.exception("function %s did not return a response", function.name)
            return web.Response(status=500)

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        if not request.body_exists:
            return b""
        length = request.content_length
        if length is not None and length > self._max_body:
            raise web.HTTPRequestEntityTooLarge(self._max_body, length)
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await request.read()
        if length is None:
            # The real host's ToRpcHttp passes a body on only if ContentLength > 0.
            self._warn_of_chunks(request)
            return b""
        return body

    def _warn_of_chunks(self, request: web.BaseRequest) -> None:
        if not self._warned_of_chunks:
            self._warned_of_chunks = True
            logger.warning(
                "%s %s came in chunks, without Content-Length: as on Azure, the function gets an "
                "empty body (logged once)",
                request.method,
                request.path,
            )
