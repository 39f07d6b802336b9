"""Finds the program that solved a sentence, in the read model and the log."""

from __future__ import annotations

from domain.planning.planner import Solved
from domain.projections.intents import IntentReads
from domain.repository import IntentRepository
from domain.similarity.embedder import text_hash


class SolvedInLog:
    """`SolvedIntents` over the read model (which intent) and its stream (which program)."""

    def __init__(self, reads: IntentReads, repository: IntentRepository) -> None:
        self._reads = reads
        self._repository = repository

    async def find(self, tenant_id: str, text: str) -> Solved | None:
        """See `SolvedIntents.find`."""
        intent_id = await self._reads.latest_solved(tenant_id, text_hash(text))
        if intent_id is None:
            return None
        state = await self._repository.load(intent_id)
        if state is None or state.program is None:
            return None
        return Solved(intent_id, state.program)
