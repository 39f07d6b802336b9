"""``qlp streams replay``: replays one intent, and compares the result with the read model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.application.repository import IntentRepository
from domain.eventlog.intent_streams import folding
from domain.intents.state import IntentState
from domain.projections.intent_row import row_of
from domain.projections.intents import IntentReads, IntentRow


@dataclass(frozen=True, slots=True)
class ReplayStep:
    """One event and the status it led to."""

    version: int
    type: str
    recorded_at: datetime
    status: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """A stream, folded step by step.

    Attributes:
        steps: every event, with the status after it.
        differences: fields in which the read model's row differs from the folded state, as
            ``field: (folded, read model)``.
    """

    intent_id: UUID
    tenant_id: str
    steps: list[ReplayStep]
    differences: dict[str, tuple[Any, Any]]

    @property
    def matches(self) -> bool:
        """Whether the read model agrees with the events."""
        return not self.differences


class NoSuchStream(Exception):
    """There are no events of this intent."""


async def replay(repository: IntentRepository, reads: IntentReads, intent_id: UUID) -> Replayed:
    """Fold the stream of ``intent_id`` and compare it with the read model; only reads.

    Raises:
        NoSuchStream: the log has no such stream.
        domain.eventlog.intent_streams.UnreadableStream: this release cannot fold it.
    """
    records = await repository.history(intent_id)
    state: IntentState | None = None
    steps: list[ReplayStep] = []
    for record, state in folding(records):
        steps.append(
            ReplayStep(record.version, record.type, record.recorded_at, state.status.value)
        )
    if state is None:
        raise NoSuchStream(f"the log has no events of intent {intent_id}")
    row = await reads.get(state.tenant_id, intent_id)
    return Replayed(intent_id, state.tenant_id, steps, _differences(row_of(state), row))


def _differences(folded: IntentRow, row: IntentRow | None) -> dict[str, tuple[Any, Any]]:
    expected = asdict(folded)
    found = asdict(row) if row is not None else dict.fromkeys(expected)
    return {name: (value, found[name]) for name, value in expected.items() if value != found[name]}
