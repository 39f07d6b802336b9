"""Structured log lines: how each run ended, and events for an operator's alerts."""

from __future__ import annotations

import logging
from typing import Any, Literal

from domain.contracts.job import SandboxResult

log = logging.getLogger("sandbox_host.host.recent_runs")
security = logging.getLogger("sandbox_host.security")

#: Attribute of a log record; `sandbox_host.logs` adds its mapping to the JSON line.
FIELDS = "fields"

SecurityEvent = Literal["token_refused", "leftover_box", "canary_failed", "agent_killed"]


def run_ended(result: SandboxResult) -> None:
    """Log a run's verdict, usage, and the limits it reached; never its output."""
    usage = result.usage.model_dump(exclude_none=True) if result.usage else {}
    fields = {
        "event": "run_ended",
        "run_id": str(result.run_id),
        "intent_id": str(result.intent_id),
        "verdict": result.verdict.value,
        "runtime": result.runtime,
        "warm": result.warm,
        "queued_ms": result.queued_ms,
        "artifacts": len(result.artifacts),
        "usage": usage,
        "behaviour": result.behaviour.model_dump(mode="json", exclude_defaults=True),
    }
    wall = usage.get("wall_ms", 0.0)
    log.info("run %s: %s in %.0f ms", result.run_id, result.verdict, wall, extra={FIELDS: fields})


def security_event(kind: SecurityEvent, message: str, **facts: Any) -> None:  # noqa: ANN401
    """Log a line with the field ``security_event``, which alerts look for."""
    security.warning(message, extra={FIELDS: {"security_event": kind, **facts}})
