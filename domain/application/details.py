"""Completes rows of the read model that were written before they had details.

A migration cannot do that: details come from folding a stream. Rows are completed when they are
shown; a rebuild of ``intent_states`` completes them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from domain.application.repository import IntentRepository
from domain.eventlog.intent_streams import UnreadableStream
from domain.projections.intent_row import row_of
from domain.projections.intents import IntentRow


async def detailed(repository: IntentRepository, rows: Iterable[IntentRow]) -> list[IntentRow]:
    """The rows with their details; one whose stream cannot be folded stays as it is."""
    return [row if row.details is not None else await _folded(repository, row) for row in rows]


async def _folded(repository: IntentRepository, row: IntentRow) -> IntentRow:
    try:
        state = await repository.load(row.id)
    except UnreadableStream:  # parked, and reported by `qlp doctor`
        return row
    return row if state is None else replace(row, details=row_of(state).details)
