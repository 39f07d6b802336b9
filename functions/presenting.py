"""What clients and operators see of intents and their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

from domain.access.store import Role
from domain.eventlog.models import RecordedEvent
from domain.intents.events import POISON, REGISTRY, SandboxRunFinished, SandboxRunKillRequested
from domain.runs.media_types import media_type_of


def shown_intent(document: Mapping[str, Any]) -> dict[str, Any]:
    """An intent's document as clients see it: with artifacts' addresses, without hosts' errors."""
    outcome = document["outcome"]
    if outcome is None:
        return dict(document)
    shown = {**outcome, "artifacts": _all_linked(document["id"], outcome)}
    if isinstance(shown.get("error"), str):  # a sandbox host's; a failed intent's is an object
        del shown["error"]
    if "steps" in outcome:
        shown["steps"] = [
            {**step, "artifacts": _all_linked(document["id"], step, step["name"])}
            for step in outcome["steps"]
        ]
    return {**document, "outcome": shown}


def _all_linked(
    intent_id: UUID, outcome: Mapping[str, Any], step: str | None = None
) -> list[dict[str, Any]]:
    return [_linked(intent_id, each, step) for each in outcome.get("artifacts", ())]


def _linked(intent_id: UUID, artifact: Mapping[str, Any], step: str | None) -> dict[str, Any]:
    """An artifact of the log or the read model, with its media type and address."""
    name = str(artifact["name"])
    href = f"/api/intents/{intent_id}/artifacts/{quote(name, safe='/')}"
    if step is not None:
        href += f"?step={step}"
    return {"media_type": media_type_of(name), **artifact, "href": href}


def shown_event(record: RecordedEvent, role: Role) -> dict[str, Any]:
    """The event as ``role`` may see it: clients see neither operators' names nor hosts' errors.

    Data are shown exactly as stored, even if this release cannot read them.
    """
    hidden = role != "operator" and record.type in _HIDING
    return {
        "version": record.version,
        "type": record.type,
        "recorded_at": record.recorded_at,
        "traceparent": record.traceparent,
        "data": _for_clients(record) if hidden else record.raw_json["data"],
    }


_HIDING = (SandboxRunKillRequested.type, SandboxRunFinished.type)


def _for_clients(record: RecordedEvent) -> Mapping[str, Any] | None:
    """Data without what clients may not see; None if that cannot be determined."""
    if not REGISTRY.reads(record.type, record.schema_version):
        return None
    try:
        data = record.data
        if record.type == SandboxRunKillRequested.type:
            return _without("operator", data)
        if data["outcome"].get("retryable"):
            # The host failed, not the program, and its error names paths and addresses.
            return {**data, "outcome": _without("error", data["outcome"])}
    except POISON:
        return None
    return data


def _without(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}
