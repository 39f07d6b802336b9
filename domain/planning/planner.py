"""Finds a program for an intent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from domain.intents.content import Program
from domain.intents.events import FailureCause, PlanSource
from domain.intents.state import IntentState


@dataclass(frozen=True, slots=True)
class Plan:
    """A program for the intent; ``program`` is None where the submitted one is the plan."""

    source: PlanSource
    program: Program | None = None
    reused_from: UUID | None = None


@dataclass(frozen=True, slots=True)
class NoPlan:
    """No program can be had, and why."""

    cause: FailureCause


@dataclass(frozen=True, slots=True)
class Solved:
    """A solved intent with the program that solved it."""

    intent_id: UUID
    program: Program


class SolvedIntents(Protocol):
    """Whatever remembers solved sentences."""

    async def find(self, tenant_id: str, text: str) -> Solved | None:
        """The tenant's latest solved intent with exactly this normalised text."""


class Planner:
    """Takes the submitted program, else reuses the one of an exact repeat.

    Only an exact repeat: similarity cannot tell a paraphrase from its opposite ("transfer from
    Alice to Bob" against the reverse has a cosine of .9985).
    """

    def __init__(self, solved: SolvedIntents) -> None:
        self._solved = solved

    async def plan(self, state: IntentState) -> Plan | NoPlan:
        """The plan for an intent; it costs at most one query."""
        if state.content.program is not None:
            return Plan("submitted")
        solved = await self._solved.find(state.tenant_id, state.content.text or "")
        if solved is not None:
            return Plan("reused", solved.program, solved.intent_id)
        return NoPlan(
            FailureCause(
                code="planner_not_configured",
                message=(
                    "No program was submitted, no solved intent has this exact text, and no "
                    "language model is configured to write one. Submit the intent with a program."
                ),
            )
        )
