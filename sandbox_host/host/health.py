"""``GET /health`` and ``GET /ready``: whether jobs are being consumed, and if not, why."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from aiohttp import web

from sandbox_host.host.admission import MemoryBudget
from sandbox_host.host.engine_status import EngineStatus
from sandbox_host.host.heartbeat import HeartbeatClient
from sandbox_host.host.status import HostStatus
from sandbox_host.host.supervisor import Supervisor
from sandbox_host.runtimes.base import Pooled


class HealthServer:
    """Serves ``/health`` and ``/ready`` on ``host``:``port``; port 0 takes any free port.

    Answers come from what the host already knows; no request waits for a probe.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        memory: MemoryBudget,
        heartbeat: HeartbeatClient | None,
        status: HostStatus,
        host: str,
        port: int,
    ) -> None:
        self._supervisor = supervisor
        self._memory = memory
        self._heartbeat = heartbeat
        self._status = status
        self._host, self._port = host, port
        application = web.Application()
        application.router.add_get("/health", self._health)
        application.router.add_get("/ready", self._ready)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> str:
        """Start to listen; the URL of ``/health``.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{port}/health"

    async def aclose(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    def _problem(self) -> str | None:
        """Why jobs are not consumed; None when they are."""
        if self._status.stopping:
            return "the host is stopping"
        if self._supervisor.runtime is None:
            reasons = [
                f"{name}: {found.reason} ({found.fix})"
                for name, found in self._supervisor.readiness.items()
            ]
            engine = EngineStatus.read()
            if engine is not None and engine.state != "running":
                reasons.insert(0, f"{engine.state}: {engine.reason} ({engine.fix})")
            return f"no runtime is ready; jobs wait in the queue. {'; '.join(reasons)}".strip()
        if self._status.connected == 0:
            return "not connected to Service Bus; jobs wait in the queue"
        return None

    def _report(self) -> dict[str, Any]:
        runtime, age = self._supervisor.runtime, self._supervisor.proof_age
        readiness = self._supervisor.readiness
        chosen = readiness.get(runtime.name) if runtime else None
        details = chosen.details if chosen else {}
        return {
            "runtime": runtime.name if runtime else None,
            "isolation": chosen.isolation if chosen else None,
            "languages": list(chosen.languages) if chosen else [],
            "limits": details.get("limits"),
            "seccomp": details.get("seccomp"),
            "apparmor": details.get("apparmor"),
            "artifacts": details.get("artifacts"),
            "provedSecondsAgo": None if age is None else round(age, 1),
            "runtimes": {name: asdict(found) for name, found in readiness.items()},
            "engine": (engine := EngineStatus.read()) and asdict(engine),
            "pool": runtime.pool_state() if isinstance(runtime, Pooled) else None,
            "memory": {
                "budgetBytes": self._memory.total,
                "reservedBytes": self._memory.reserved,
                "jobsWaiting": self._memory.waiting,
            },
            "heartbeat": self._heartbeat.state() if self._heartbeat else {"status": "off"},
            "jobs": {
                "running": self._status.running,
                "finished": dict(self._status.finished),
                "deadLettered": self._status.dead_lettered,
            },
            "bus": {
                "connected": self._status.connected > 0,
                "receivers": self._status.connected,
            },
            "lastError": self._status.last_error,
        }

    async def _health(self, request: web.Request) -> web.Response:
        problem = self._problem()
        if problem is None:
            return web.json_response({"status": "consuming", **self._report()})
        body = {"type": "about:blank", "title": "Not consuming jobs", "status": 503}
        return web.Response(
            status=503,
            content_type="application/problem+json",
            text=json.dumps({**body, "detail": problem, **self._report()}),
        )

    async def _ready(self, request: web.Request) -> web.Response:
        ready = self._problem() is None
        return web.json_response({"ready": ready}, status=200 if ready else 503)
