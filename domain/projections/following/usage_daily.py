"""The projection ``usage_daily``: intents by outcome, resources and latencies by tenant and day.

Every event counts on the UTC day on which it was recorded, by the database's clock: an intent that
is submitted before midnight and ends after it counts as submitted on one day and as ended on the
next.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from pathlib import Path

from domain.database.statements import load_statements
from domain.eventlog.models import InlineWrite
from domain.intents.event_parts import ModelCall, RunOutcome
from domain.intents.events import (
    IntentCancelled,
    IntentEvent,
    IntentFailed,
    IntentSubmitted,
    IntentSucceeded,
    LanguageModelCalled,
    SandboxRunFinished,
    UnknownEvent,
)
from domain.projections.following.contract import StreamEvent

_SQL = load_statements(Path(__file__).with_name("usage_daily.sql"))

#: Upper bounds of the latency histogram's buckets in milliseconds: two per octave, from 1 ms to
#: 2.3 hours, so that a quantile read from it is off by 19 % at most. The last bucket has no bound.
LATENCY_BOUNDS_MS = tuple(2 ** (step / 2) for step in range(47))

#: More than a run can use; an event with a larger figure is invalid.
_MOST = 2**40

_COUNTED = ("submitted", "succeeded", "failed", "cancelled", "runs", "model_calls")
_SUMMED = (
    *("sandbox_ms", "cpu_ms", "output_bytes", "artifact_bytes"),
    *("tokens", "model_cost_microusd"),
)
_ENDS: dict[type[IntentEvent | UnknownEvent], str] = {
    IntentSucceeded: "succeeded",
    IntentFailed: "failed",
    IntentCancelled: "cancelled",
}


@dataclass(frozen=True, slots=True)
class UsageChange:
    """What one event adds to a tenant's day.

    Attributes:
        amounts: by column.
        latency_ms: from submission to end, if the event ends the intent; else None.
    """

    tenant_id: str
    day: date
    amounts: dict[str, int]
    latency_ms: float | None = None


class UsageDaily:
    """The projection ``usage_daily``."""

    name = "usage_daily"
    version = 1
    tables = ("usage_daily",)

    def fold(self, event: StreamEvent) -> UsageChange | None:
        """What ``event`` adds.

        Raises:
            ValueError: a measured amount is negative or impossibly large.
        """
        record, what = event.record, event.event
        day = record.recorded_at.astimezone(UTC).date()
        if isinstance(what, IntentSubmitted):
            return UsageChange(record.tenant_id, day, {"submitted": 1})
        if isinstance(what, SandboxRunFinished):
            return UsageChange(record.tenant_id, day, _used(what.outcome))
        if isinstance(what, LanguageModelCalled):
            return UsageChange(record.tenant_id, day, _asked(what.call))
        end = _ENDS.get(type(what))
        if end is None:
            return None
        waited = (record.recorded_at - event.started_at) / timedelta(milliseconds=1)
        return UsageChange(record.tenant_id, day, {end: 1}, max(waited, 0.0))

    def writes(self, changes: Sequence[UsageChange]) -> Sequence[InlineWrite]:
        """One upsert per tenant and day."""
        sums: dict[tuple[str, date], Counter[str]] = {}
        latencies: dict[tuple[str, date], list[int]] = {}
        for change in changes:
            key = (change.tenant_id, change.day)
            sums.setdefault(key, Counter()).update(change.amounts)
            histogram = latencies.setdefault(key, [0] * (len(LATENCY_BOUNDS_MS) + 1))
            if change.latency_ms is not None:
                histogram[bucket_of(change.latency_ms)] += 1
        return [
            InlineWrite(
                _SQL["add"],
                {
                    "tenant_id": tenant_id,
                    "day": day,
                    **{column: amounts[column] for column in (*_COUNTED, *_SUMMED)},
                    "latency": latencies[tenant_id, day],
                },
            )
            # In this order, so that processes that write the same rows wait, and none is undone.
            for (tenant_id, day), amounts in sorted(sums.items())
        ]


def bucket_of(latency_ms: float) -> int:
    """The index of a latency's bucket: the first whose bound is not below it."""
    return bisect_left(LATENCY_BOUNDS_MS, latency_ms)


def _used(outcome: RunOutcome) -> dict[str, int]:
    usage = outcome.usage
    cpu = _amount("cpu_user_ms", usage.get("cpu_user_ms"))
    cpu += _amount("cpu_system_ms", usage.get("cpu_system_ms"))
    output = len(outcome.stdout.encode()) + len(outcome.stderr.encode())
    return {
        "runs": 1,
        "sandbox_ms": _amount("wall_ms", usage.get("wall_ms")),
        "cpu_ms": cpu,
        "output_bytes": output,
        "artifact_bytes": _amount("artifacts", sum(each.size for each in outcome.artifacts)),
    }


def _asked(call: ModelCall) -> dict[str, int]:
    return {
        "model_calls": 1,
        "tokens": _amount("tokens", call.input_tokens) + _amount("tokens", call.output_tokens),
        "model_cost_microusd": _amount("cost_microusd", call.cost_microusd),
    }


def _amount(name: str, value: float | None) -> int:
    """``value`` as an integer, so that sums do not depend on the order of addition."""
    if value is None:
        return 0
    if not 0 <= value < _MOST:
        raise ValueError(f"usage.{name}: {value} is not an amount between 0 and 2^40")
    return round(value)
