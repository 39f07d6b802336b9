"""The use cases of clients: submit and cancel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID, uuid4, uuid5

from domain.handler import CommandHandler, Handled
from domain.intents.commands import CancelIntent, Origin, SubmitIntent
from domain.intents.content import IntentContent
from domain.intents.decider import IntentNotFound
from domain.repository import IntentRepository

_NAMESPACE = UUID("9d0a7f0e-6a56-5d3c-8f0e-51b1f2c7a4d9")


def intent_id_for(tenant_id: str, origin: Origin, key: str | None) -> UUID:
    """The id of an intent: derived from the caller's key within its tenant, else new.

    Submitting again with the same key therefore meets the same stream.
    """
    return uuid4() if key is None else uuid5(_NAMESPACE, f"{tenant_id}\n{origin}\n{key}")


class IntentService:
    """What clients and producers can ask for."""

    def __init__(
        self,
        repository: IntentRepository,
        handler: CommandHandler,
        clock: Callable[[], datetime],
    ) -> None:
        self._repository = repository
        self._handler = handler
        self._clock = clock

    async def submit(
        self,
        tenant_id: str,
        content: IntentContent,
        *,
        origin: Origin,
        key: str | None,
        traceparent: str,
    ) -> Handled:
        """Accept an intent; with the ``key`` of an earlier one, return that one.

        Raises:
            SubmissionConflict: the key was used before for other content.
        """
        intent_id = intent_id_for(tenant_id, origin, key)
        command = SubmitIntent(intent_id, tenant_id, content, origin, self._clock())
        return await self._handler.handle(intent_id, command, traceparent=traceparent)

    async def cancel(
        self, tenant_id: str, intent_id: UUID, reason: str | None, *, traceparent: str
    ) -> Handled:
        """Cancel an intent of the tenant; cancelling it again changes nothing.

        Raises:
            IntentNotFound: the tenant has no such intent.
            IntentAlreadyFinished: it has succeeded or failed.
        """
        state = await self._repository.load(intent_id)
        if state is None or state.tenant_id != tenant_id:
            raise IntentNotFound(f"there is no intent {intent_id}")
        command = CancelIntent(reason, self._clock())
        return await self._handler.handle(intent_id, command, traceparent=traceparent)
