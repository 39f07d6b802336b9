"""The host's own endpoints under ``/admin``, for clients on this machine only.

``GET /admin/host/status``, ``GET /admin/functions``, ``GET`` and ``POST /admin/functions/NAME``:
see https://learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http. Keys are not
needed, as in Core Tools. Requests must come from a loopback address and have one in Host, and a
POST must be JSON; so a web page in the developer's browser cannot reach them through DNS rebinding
or a form.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from infra.local.functions_host.invocation import FunctionFailedError, Invoker
from infra.local.functions_host.model import HostedFunction, HttpTrigger

logger = logging.getLogger(__name__)

MAX_INPUT_BYTES = 1024**2

ManualArgument = Callable[[HostedFunction, str], object]


class Admin:
    """Answers requests below ``/admin``.

    ``manual_argument`` creates a function's argument from the ``input`` of a manual run.
    """

    def __init__(
        self,
        functions: Sequence[HostedFunction],
        route_prefix: str,
        invoker: Invoker,
        manual_argument: ManualArgument,
    ) -> None:
        self._functions = {function.name.lower(): function for function in functions}
        self._route_prefix = route_prefix
        self._invoker = invoker
        self._manual_argument = manual_argument
        self._started = time.monotonic()
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.BaseRequest, path: str) -> web.Response:
        """Answer a request; 403 if it comes from another machine, 404 for an unknown path."""
        if not _is_local(request):
            return web.Response(status=403)
        parts = path.strip("/").lower().split("/")[1:]
        if parts == ["host", "status"] and request.method == "GET":
            return web.json_response(self._status())
        if parts == ["functions"] and request.method == "GET":
            base = f"{request.scheme}://{request.headers['Host']}"
            return web.json_response(
                [self._describe(function, base) for function in self._functions.values()]
            )
        if len(parts) != 2 or parts[0] != "functions" or parts[1] not in self._functions:
            return web.Response(status=404)
        function = self._functions[parts[1]]
        if request.method == "GET":
            base = f"{request.scheme}://{request.headers['Host']}"
            return web.json_response(self._describe(function, base))
        if request.method == "POST":
            return await self._run(request, function)
        return web.Response(status=404)

    def _status(self) -> dict[str, Any]:
        return {
            "id": "local",
            "state": "Running",
            "version": "4.0-local",
            "processUptime": int((time.monotonic() - self._started) * 1000),
        }

    def _describe(self, function: HostedFunction, base: str) -> dict[str, Any]:
        trigger = function.trigger
        route = (
            f"{self._route_prefix}/{trigger.route}" if isinstance(trigger, HttpTrigger) else None
        )
        return {
            "name": function.name,
            "language": "python",
            "isDisabled": function.disabled,
            "href": f"{base}/admin/functions/{function.name}",
            "invoke_url_template": f"{base}/{route.strip('/')}" if route is not None else None,
            "config": {"bindings": list(function.bindings)},
        }

    async def _run(self, request: web.BaseRequest, function: HostedFunction) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(status=415, text="Content-Type must be application/json\n")
        if isinstance(function.trigger, HttpTrigger):
            return web.Response(status=400, text="call an HTTP function through its route\n")
        try:
            text = _input_of(await _read(request))
            argument = self._manual_argument(function, text)
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        task = asyncio.create_task(self._invoke(function, argument))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return web.Response(status=202)

    async def _invoke(self, function: HostedFunction, argument: object) -> None:
        try:
            await self._invoker.run(function, argument)
        except FunctionFailedError:
            logger.info("the manual run of %s failed", function.name)


async def _read(request: web.BaseRequest) -> bytes:
    body = b""
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_INPUT_BYTES:
            raise ValueError(f"the body may have at most {MAX_INPUT_BYTES} bytes")
    return body


def _input_of(body: bytes) -> str:
    """Return ``input`` as text: a string unchanged, other values as JSON, empty if missing."""
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise ValueError('the body must be JSON such as {"input": "text"}') from None
    value = document.get("input", "") if isinstance(document, dict) else document
    return value if isinstance(value, str) else json.dumps(value)


def _is_local(request: web.BaseRequest) -> bool:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not peer or not _is_loopback(peer[0]):
        return False
    host = request.headers.get("Host", "").lower()
    name, colon, port = host.rpartition(":")
    name = (name if colon and port.isdigit() else host).strip("[]")
    return name == "localhost" or _is_loopback(name)


def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
