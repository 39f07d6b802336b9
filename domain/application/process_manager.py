"""Moves intents on: takes the steps that others have to be asked for."""

from __future__ import annotations

from uuid import UUID

from domain.application.handler import CommandHandler
from domain.application.repository import IntentRepository
from domain.application.steps import Steps
from domain.intents.state import IntentState


class ProcessManager:
    """Takes the steps that follow from the state alone, whatever message woke it.

    So a duplicate, late or reordered message is harmless: it finds nothing left to do.
    """

    def __init__(self, repository: IntentRepository, handler: CommandHandler, steps: Steps) -> None:
        self._repository = repository
        self._handler = handler
        self._steps = steps

    async def advance(self, intent_id: UUID, *, traceparent: str) -> IntentState | None:
        """Take steps until the intent waits for something else or has ended.

        Returns:
            the state reached; None if there is no such intent.
        """
        state = await self._repository.load(intent_id)
        while state is not None and (prepared := await self._steps.prepare(state)) is not None:
            handled = await self._handler.handle(
                intent_id, prepared.command, traceparent=traceparent, inline=prepared.inline
            )
            state = handled.state
        return state
