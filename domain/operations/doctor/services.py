"""Examines Service Bus, entity by entity, and the sandbox host."""

from __future__ import annotations

import asyncio
from typing import Any

from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import (
    MessagingEntityNotFoundError,
    ServiceBusError,
)

from domain.contracts.redaction import redact
from domain.errors import OperationError
from domain.health import SandboxUnreachable, ask_sandbox_host
from domain.messaging.bus import (
    FORBIDDEN,
    FORBIDDEN_FIX,
    Entity,
    bus_client,
    entities_of,
    what_failed,
)
from domain.messaging.dead_letters import MAX_SCANNED, count_dead_letters
from domain.operations.doctor.findings import CHECK_SECONDS, Finding
from domain.settings import Settings

_NAME = "Service Bus"
_SANDBOX_SECONDS = 5.0


async def examine_bus(settings: Settings) -> list[Finding]:
    """A finding for each queue and subscription that the application receives from."""
    entities = entities_of(settings)
    try:
        async with asyncio.timeout(CHECK_SECONDS), bus_client(settings) as client:
            found = await asyncio.gather(*(_examine_entity(client, each) for each in entities))
    except TimeoutError:
        return [_unreachable(f"no answer within {CHECK_SECONDS:g} s")]
    except OperationError as error:
        return [_unreachable(str(error))]
    if len({finding.detail for finding in found}) == 1 and found[0].status == "fail":
        return found[:1]  # the whole namespace, not one entity
    return [*found]


async def _examine_entity(client: ServiceBusClient, entity: Entity) -> Finding:
    name = f"{_NAME} {entity.name}"
    try:
        async with entity.receiver(client, dead_letters=False) as receiver:
            await receiver.peek_messages(max_message_count=1)
        dead = await count_dead_letters(client, entity)
    except MessagingEntityNotFoundError:
        fix = "create it: terraform apply, or the file that QLP_SERVICE_BUS_CONFIG names"
        return Finding(name, "fail", "there is no such entity", fix)
    except FORBIDDEN as error:
        return Finding(_NAME, "fail", what_failed(error), FORBIDDEN_FIX)
    except (ServiceBusError, OperationError, OSError) as error:
        return _unreachable(what_failed(error))
    if dead:
        count = f"{MAX_SCANNED} or more" if dead >= MAX_SCANNED else f"{dead}"
        fix = f"qlp dead-letters list {entity.name}"
        return Finding(name, "warn", f"reachable; dead letters: {count}", fix)
    return Finding(name, "ok", "reachable; no dead letters")


def _unreachable(why: str) -> Finding:
    fix = "check ServiceBusConnection, DNS, firewall and private endpoint; events wait safely"
    return Finding(_NAME, "fail", why, fix)


async def examine_sandbox(url: str | None) -> list[Finding]:
    """Whether the sandbox host says that it can run programs."""
    if url is None:
        detail = "not checked: QLP_SANDBOX_URL is not set"
        return [Finding("sandbox", "ok", detail)]
    try:
        health = await ask_sandbox_host(url, _SANDBOX_SECONDS)
    except SandboxUnreachable as error:
        return [Finding("sandbox", "fail", str(error), "start it, or correct QLP_SANDBOX_URL")]
    if not health.ready:
        fix = f"see {url.rstrip('/')}/health"
        return [Finding("sandbox", "fail", _excerpt(health.report), fix)]
    runtime = health.report.get("runtime")
    return [Finding("sandbox", "ok", f"ready, with {runtime}" if runtime else "ready")]


def _excerpt(report: dict[str, Any]) -> str:
    return f"not ready: {redact(str(report))[:500]}"
