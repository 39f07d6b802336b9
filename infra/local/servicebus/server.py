"""The broker: its AMQP listener, its HTTP endpoints, start and stop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiohttp import web

from infra.local.servicebus.amqp.attaching import Attacher
from infra.local.servicebus.amqp.cbs import SharedKey
from infra.local.servicebus.amqp.connection import Connection
from infra.local.servicebus.broker.config import NamespaceConfig
from infra.local.servicebus.broker.dispatcher import Dispatcher
from infra.local.servicebus.broker.namespace import Namespace
from infra.local.servicebus.broker.stored import Status
from infra.local.servicebus.connection_string import KEY_NAME, connection_string
from infra.local.servicebus.limits import Limits


def wall_clock_ms() -> int:
    """Milliseconds since the epoch; the SDK compares the ends of locks with the wall clock."""
    return time.time_ns() // 1_000_000


class Broker:
    """A Service Bus namespace on this machine; messages are kept in memory.

    Args:
        config: the entities.
        key: the shared access key, for clients and ``POST /reset``.
        port: AMQP port, 0 for any free one.
        health_port: HTTP port, 0 for any free one.

    Raises:
        ValueError: the key is too short, or cannot be part of a connection string.
    """

    def __init__(
        self,
        config: NamespaceConfig,
        key: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        health_port: int = 0,
        limits: Limits | None = None,
    ) -> None:
        if len(key) < 16:
            raise ValueError("the shared access key must have at least 16 characters")
        if ";" in key or not key.isprintable() or " " in key:
            raise ValueError("the shared access key must not contain semicolons or spaces")
        self.host = host
        self.port = port
        self.health_port = health_port
        self._key = key
        self._limits = limits or Limits()
        self._shared_key = SharedKey(KEY_NAME, key, wall_clock_ms)
        self._namespace = Namespace(config, wall_clock_ms, self._limits.max_entity_bytes)
        self._connections: set[Connection] = set()
        self._dispatchers: dict[str, Dispatcher] = {}
        self._server: asyncio.Server | None = None
        self._web: web.AppRunner | None = None

    @property
    def connection_string(self) -> str:
        """The connection string for clients; it contains the key."""
        return connection_string(self.host, self.port, self._key)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def start(self) -> None:
        """Start to listen; then ``port`` and ``health_port`` are the actual ports.

        Raises:
            OSError: a port is taken.
        """
        loop = asyncio.get_running_loop()
        for entity in self._namespace.entities():
            self._dispatchers[entity.path.lower()] = Dispatcher(entity, wall_clock_ms)
        for path, topic in self._namespace.topics.items():
            self._dispatchers[path] = Dispatcher(topic, wall_clock_ms)
        attacher = Attacher(self._namespace, self._shared_key, self._dispatchers)
        try:
            self._server = await loop.create_server(
                lambda: Connection(
                    *(self._limits, wall_clock_ms, attacher, self._connections),
                    self._shared_key.sign_in,
                ),
                self.host,
                self.port,
                backlog=1024,
            )
            self.port = self._server.sockets[0].getsockname()[1]
            await self._start_web()
        except BaseException:
            await self.stop()
            raise

    async def _start_web(self) -> None:
        app = web.Application(client_max_size=1024)
        app.add_routes([web.get("/health", self._health), web.post("/reset", self._reset)])
        self._web = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._web.setup()
        site = web.TCPSite(self._web, self.host, self.health_port)
        await site.start()
        self.health_port = self._web.addresses[0][1]

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.fail("amqp:connection:forced", "the broker is shutting down")
            connection.abort()
        for dispatcher in self._dispatchers.values():
            dispatcher.close()
        if self._web is not None:
            await self._web.cleanup()

    def depths(self) -> dict[str, dict[str, int]]:
        """For each entity, its messages by status, its dead letters, and its size in bytes."""
        depths: dict[str, dict[str, int]] = {}
        for entity in self._namespace.entities():
            if entity.dead_letters is None:
                continue
            depth = {status.value: count for status, count in entity.counts().items()}
            depth["dead_lettered"] = sum(entity.dead_letters.counts().values())
            depth["bytes"] = entity.quota.used
            depths[entity.path] = depth
        for topic in self._namespace.topics.values():
            depths[topic.path] = {Status.SCHEDULED.value: topic.scheduled()}
        return depths

    async def _health(self, _request: web.Request) -> web.Response:
        body: dict[str, Any] = {
            "status": "ok",
            "namespace": self._namespace.name,
            "port": self.port,
            "connections": self.connections,
            "entities": self.depths(),
        }
        return web.json_response(body)

    async def _reset(self, request: web.Request) -> web.Response:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._shared_key.is_key(key):
            return web.json_response(
                {"error": "send the shared access key as a bearer token"},
                status=401,
                headers={"WWW-Authenticate": "Bearer"},
            )
        self._namespace.clear()
        return web.json_response({"status": "ok"})
