"""Finds what solved a sentence, or one like it, in the read model and the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from domain.application.repository import IntentRepository
from domain.eventlog.intent_streams import UnreadableStream
from domain.intents.event_parts import Author, PlannedStep
from domain.intents.state import IntentState, Status
from domain.intents.text import text_hash
from domain.projections.intents import IntentReads
from domain.similarity.embedder import EmbeddingUnavailable
from domain.similarity.search import Conditions, Found

#: How many times a reuse is followed to the intent it reused.
_MOST_REPEATS = 4


@dataclass(frozen=True, slots=True)
class Solved:
    """A solved intent with the plan that solved it.

    Attributes:
        author: the model that wrote it; None where a client did.
        expected_artifacts: those of its last step.
    """

    intent_id: UUID
    text: str
    steps: tuple[PlannedStep, ...]
    author: Author | None = None
    explanation: str | None = None
    expected_artifacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Near:
    """A solved intent similar to another, and their cosine similarity, -1 to 1."""

    solved: Solved
    similarity: float


class SolvedIntents(Protocol):
    """Finds solved intents."""

    async def repeat(self, tenant_id: str, text: str) -> Solved | None:
        """The tenant's latest intent with exactly this text and a program of its own."""

    async def nearest(self, tenant_id: str, text: str, limit: int, without: UUID) -> Sequence[Near]:
        """The tenant's solved intents nearest to a text, with programs of their own, nearest first.

        Args:
            tenant_id: whose intents.
            text: the sentence.
            limit: how many at most.
            without: the intent that asks.
        """


class SimilarTexts(Protocol):
    """The part of the search for similar intents (`domain.similarity.search`) needed here."""

    async def by_text(self, tenant_id: str, text: str, limit: int, conditions: Conditions) -> Found:
        """The tenant's intents most similar to a text, the most similar first."""


class SolvedInLog:
    """`SolvedIntents` over the read model (which intent) and its stream (which program)."""

    def __init__(
        self, reads: IntentReads, repository: IntentRepository, texts: SimilarTexts
    ) -> None:
        self._reads = reads
        self._repository = repository
        self._texts = texts

    async def repeat(self, tenant_id: str, text: str) -> Solved | None:
        """See `SolvedIntents.repeat`."""
        intent_id = await self._reads.latest_solved(tenant_id, text_hash(text))
        return await self._solved(tenant_id, intent_id) if intent_id is not None else None

    async def nearest(self, tenant_id: str, text: str, limit: int, without: UUID) -> Sequence[Near]:
        """See `SolvedIntents.nearest`."""
        conditions = Conditions(statuses=(Status.SUCCEEDED.value,), reused=False, without=without)
        try:
            found = await self._texts.by_text(tenant_id, text, limit, conditions)
        except (EmbeddingUnavailable, ValueError):  # no provider, or a text without words
            return []
        near = []
        for each in found.items:
            solved = await self._solved(tenant_id, each.intent.id)
            if solved is not None:
                near.append(Near(solved, each.similarity))
        return near

    async def _solved(self, tenant_id: str, intent_id: UUID) -> Solved | None:
        """What solved an intent: a plan made for its words, for this intent or an earlier one.

        The read model leaves out reused plans, but its rows may have been written by a release that
        did not record reuse; the log does. A reuse is followed to the intent it reused.
        """
        state = await self._succeeded(tenant_id, intent_id)
        for _ in range(_MOST_REPEATS):
            if state is None or state.reused_from is None:
                return solved_by(state) if state is not None else None
            made = await self._succeeded(tenant_id, state.reused_from)
            same = made is not None and _hash_of(made) == _hash_of(state)
            state = made if same else None
        return None

    async def _succeeded(self, tenant_id: str, intent_id: UUID) -> IntentState | None:
        try:
            state = await self._repository.load(intent_id)
        except UnreadableStream:
            return None  # a problem of another intent, not of this one
        if state is None or state.tenant_id != tenant_id or state.status is not Status.SUCCEEDED:
            return None
        return state


def _hash_of(state: IntentState) -> bytes:
    return text_hash(state.content.text or "")


def solved_by(state: IntentState) -> Solved | None:
    """What a state says about how its intent was solved; None where there is no plan."""
    last = state.result_step
    if last is None:
        return None
    return Solved(
        state.id,
        state.content.text or "",
        tuple(PlannedStep(name=s.name, program=s.program, needs=s.needs) for s in state.steps),
        state.author,
        state.explanation,
        last.expects,
    )
