"""Events of an intent as those see them who ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.access.store import Role
from domain.eventlog.models import RecordedEvent
from domain.intents.events import POISON, REGISTRY, SandboxRunFinished, SandboxRunKillRequested


def shown_event(record: RecordedEvent, role: Role) -> dict[str, Any]:
    """The event; clients do not see who operates the system, nor what a host says of itself.

    Data are shown exactly as they are stored; they need not be readable.
    """
    hidden = role != "operator" and record.type in _HIDING
    return {
        "version": record.version,
        "type": record.type,
        "recorded_at": record.recorded_at,
        "traceparent": record.traceparent,
        "data": _for_clients(record) if hidden else record.said["data"],
    }


_HIDING = (SandboxRunKillRequested.type, SandboxRunFinished.type)


def _for_clients(record: RecordedEvent) -> Mapping[str, Any] | None:
    """Data without what is not theirs; None where there is no telling what that is."""
    if not REGISTRY.reads(record.type, record.schema_version):
        return None
    try:
        data = record.data
        if record.type == SandboxRunKillRequested.type:
            return _without("operator", data)
        if data["outcome"].get("retryable"):
            # The host failed, not the program: its reason names its paths and addresses.
            return {**data, "outcome": _without("error", data["outcome"])}
    except POISON:
        return None
    return data


def _without(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}
