"""Events of an intent as those see them who ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.access.store import Role
from domain.eventlog.models import RecordedEvent
from domain.intents.events import SandboxRunFinished, SandboxRunKillRequested


def shown_event(record: RecordedEvent, role: Role) -> dict[str, Any]:
    """The event; clients do not see who operates the system, nor what a host says of itself."""
    data = record.data
    return {
        "version": record.version,
        "type": record.type,
        "recorded_at": record.recorded_at,
        "traceparent": record.metadata.get("traceparent"),
        "data": data if role == "operator" else _for_clients(record.type, data),
    }


def _for_clients(type_: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    if type_ == SandboxRunKillRequested.type:
        return _without("operator", data)
    if type_ == SandboxRunFinished.type and data["outcome"].get("retryable"):
        # The host failed, not the program: its reason names its paths, processes and addresses.
        return {**data, "outcome": _without("error", data["outcome"])}
    return data


def _without(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}
