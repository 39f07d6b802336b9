"""The host: starts and stops its parts in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from azure.servicebus.aio import ServiceBusClient

from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.host_json import HostConfig
from infra.local.functions_host.http.admin import Admin
from infra.local.functions_host.http.routes import Router
from infra.local.functions_host.http.server import HttpServer, max_body_bytes
from infra.local.functions_host.invocation import Invoker, thread_count
from infra.local.functions_host.model import (
    HostedFunction,
    HttpTrigger,
    ServiceBusTrigger,
    TimerTrigger,
)
from infra.local.functions_host.service_bus.connection import Connection, resolve_connection
from infra.local.functions_host.service_bus.messages import manual_argument
from infra.local.functions_host.service_bus.trigger import Listener, make_listener
from infra.local.functions_host.stopping import LAST_BYTES_SECONDS, SETTLE_SECONDS
from infra.local.functions_host.timer.trigger import (
    StatusStore,
    SystemClock,
    TimerLoop,
    timer_request,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0 picks a free one."""

    host: str
    port: int


class FunctionsHost:
    """Serves indexed functions until stopped.

    The constructor finds everything that is wrong with the app or its settings, so that ``start``
    fails only for reasons of the machine.
    """

    def __init__(
        self,
        functions: Sequence[HostedFunction],
        config: HostConfig,
        environ: Mapping[str, str],
        state_dir: Path | None,
    ) -> None:
        self.functions = functions
        self._config = config
        enabled = [function for function in functions if not function.disabled]
        self._invoker = Invoker(timeout=config.function_timeout, threads=thread_count(environ))
        router = Router(
            (function for function in enabled if isinstance(function.trigger, HttpTrigger)),
            config.http.route_prefix,
        )
        _warn_of_overlaps(router)
        _log_required_keys(enabled)
        admin = Admin(functions, config.http.route_prefix, self._invoker, _manual_argument)
        self._http = HttpServer(
            router, self._invoker, config.http, max_body_bytes(environ), admin.handle
        )
        store = StatusStore(state_dir)
        self._timers = [
            TimerLoop(function, self._invoker, store, SystemClock())
            for function in enabled
            if isinstance(function.trigger, TimerTrigger)
        ]
        self._connections = {
            function.name: resolve_connection(
                function.trigger.connection, environ, f"function {function.name}"
            )
            for function in enabled
            if isinstance(function.trigger, ServiceBusTrigger)
        }
        self._clients: dict[Connection, ServiceBusClient] = {}
        self._listeners: list[Listener] = []
        self._timer_tasks: list[asyncio.Task[None]] = []
        self._runner: web.ServerRunner | None = None
        self.url = ""

    async def start(self, address: Address) -> None:
        """Listen, and start to receive. An unreachable broker is retried in the background."""
        self._runner = web.ServerRunner(
            self._http.web_server(), shutdown_timeout=LAST_BYTES_SECONDS
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, address.host, address.port, backlog=512)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise HostStartupError(
                f"cannot listen on {address.host}:{address.port}: {error.strerror}; "
                "choose another --port (0 takes a free one)"
            ) from error
        host = f"[{address.host}]" if ":" in address.host else address.host
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"
        await self._start_listeners()

    def start_timers(self) -> None:
        """Start the timers; those with ``run_on_startup`` run at once."""
        self._timer_tasks = [asyncio.create_task(timer.run()) for timer in self._timers]

    async def _start_listeners(self) -> None:
        for function in self.functions:
            connection = self._connections.get(function.name)
            if connection is not None:
                client = self._clients.get(connection)
                if client is None:
                    client = self._clients[connection] = connection.client()
                self._listeners.append(
                    make_listener(function, self._invoker, self._config.service_bus, client)
                )
        await asyncio.gather(*(item.start() for item in self._listeners))

    async def stop(self, grace: float) -> None:
        """Stop accepting and receiving; cancel functions that still run after ``grace`` seconds."""
        if self._runner is not None and self._runner.server is not None:
            for site in list(self._runner.sites):
                await site.stop()
            self._runner.server.pre_shutdown()  # idle connections accept no further requests
        for timer, task in zip(self._timers, self._timer_tasks, strict=False):
            if not timer.in_run:
                task.cancel()
        await asyncio.gather(*(item.stop() for item in self._listeners))
        if not await self._invoker.drain(grace):
            logger.warning(
                "%d functions still run after %g s and are cancelled",
                self._invoker.in_flight,
                grace,
            )
        for task in self._timer_tasks:
            task.cancel()
        # No function runs any more, or the rest is cancelled; messages may still need settling.
        settling = 0.0 if self._invoker.in_flight else SETTLE_SECONDS
        await asyncio.gather(*(item.finish(settling) for item in self._listeners))
        for client in self._clients.values():
            await client.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._invoker.close()

    def describe(self) -> list[dict[str, Any]]:
        """Return every function's name and trigger, with its route, entity or schedule."""
        prefix = self._config.http.route_prefix
        return [_describe(function, prefix) for function in self.functions]


def _describe(function: HostedFunction, prefix: str) -> dict[str, Any]:
    trigger = function.trigger
    described: dict[str, Any] = {"name": function.name}
    if isinstance(trigger, HttpTrigger):
        described |= {"trigger": "http", "route": f"/{prefix}/{trigger.route}".replace("//", "/")}
        described["methods"] = sorted(trigger.methods) if trigger.methods else None
    elif isinstance(trigger, ServiceBusTrigger):
        described |= {"trigger": "serviceBus", "entity": trigger.entity, "many": trigger.many}
    else:
        described |= {"trigger": "timer", "schedule": trigger.schedule}
    if function.disabled:
        described["disabled"] = True
    return described


def _manual_argument(function: HostedFunction, text: str) -> object:
    trigger = function.trigger
    if isinstance(trigger, ServiceBusTrigger):
        return manual_argument(trigger, text)
    return timer_request(None, past_due=False)


def _warn_of_overlaps(router: Router) -> None:
    for first, second in router.overlaps():
        logger.warning(
            "routes overlap: %s (%s) is tried before %s (%s), because the host orders functions by "
            "name; add a constraint such as {id:guid}, or rename one",
            first.function.name,
            first.template.text,
            second.function.name,
            second.template.text,
        )


def _log_required_keys(functions: Sequence[HostedFunction]) -> None:
    keyed = [
        function.name
        for function in functions
        if isinstance(function.trigger, HttpTrigger) and function.trigger.auth_level != "ANONYMOUS"
    ]
    if keyed:
        logger.info("keys are not checked locally; on Azure these need one: %s", ", ".join(keyed))
