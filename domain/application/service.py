"""The use cases of clients and operators: submit, cancel, kill."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from domain.application.admission import Admission, NotAdmitted
from domain.application.handler import CommandHandler, Handled
from domain.application.repository import IntentRepository
from domain.eventlog.intent_streams import UnreadableStream
from domain.intents.commands import CancelIntent, KillRun, Origin, SubmitIntent
from domain.intents.content import IntentContent
from domain.intents.ids import new_id
from domain.intents.refusals import IntentNotFound, NothingRuns
from domain.intents.state import IntentState

_NAMESPACE = UUID("9d0a7f0e-6a56-5d3c-8f0e-51b1f2c7a4d9")


def intent_id_for(tenant_id: str, origin: Origin, key: str | None) -> UUID:
    """The id of an intent: derived from the caller's key within its tenant, else new.

    Submitting again with the same key therefore finds the same stream.
    """
    return new_id() if key is None else uuid5(_NAMESPACE, f"{tenant_id}\n{origin}\n{key}")


@dataclass(frozen=True, slots=True)
class Killed:
    """A run that is to be killed; ``requested``: by this call, not by one before."""

    run_id: UUID
    requested: bool


class IntentService:
    """What clients, producers and operators can ask for."""

    def __init__(
        self,
        repository: IntentRepository,
        handler: CommandHandler,
        admission: Admission,
        clock: Callable[[], datetime],
    ) -> None:
        self._repository = repository
        self._handler = handler
        self._admission = admission
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
            UnreadableStream: this release cannot read the events of that earlier intent.
            NotAdmitted: the content asks for an unknown language, or for too much.
        """
        intent_id = intent_id_for(tenant_id, origin, key)
        try:
            await self._admission.check(tenant_id, content)
        except NotAdmitted:
            # What was accepted once stays accepted: a repeat finds it, whatever changed since.
            if key is None or await self._repository.load(intent_id) is None:
                raise
        command = SubmitIntent(intent_id, tenant_id, content, origin, self._clock())
        return await self._handler.handle(intent_id, command, traceparent=traceparent)

    async def cancel(
        self, tenant_id: str, intent_id: UUID, reason: str | None, *, traceparent: str
    ) -> Handled:
        """Cancel an intent of the tenant; cancelling it again changes nothing.

        Raises:
            IntentNotFound: the tenant has no such intent.
            IntentAlreadyFinished: it has succeeded or failed.
            UnreadableStream: this release cannot read its events.
        """
        await self._of_tenant(tenant_id, intent_id)
        command = CancelIntent(reason, self._clock())
        return await self._handler.handle(intent_id, command, traceparent=traceparent)

    async def kill(
        self,
        tenant_id: str,
        intent_id: UUID,
        operator: str,
        reason: str | None,
        *,
        traceparent: str,
    ) -> list[Killed]:
        """Have the tenant's open runs of an intent killed; asking again changes nothing.

        Args:
            tenant_id: whose intent.
            intent_id: whose runs.
            operator: who asks, as it is recorded.
            reason: why, for the record.
            traceparent: recorded with the event.

        Raises:
            IntentNotFound: the tenant has no such intent.
            NothingRuns: it has no open run.
            UnreadableStream: this release cannot read its events.
        """
        state = await self._of_tenant(tenant_id, intent_id)
        if not state.open_runs:
            raise NothingRuns("nothing of this intent runs")
        killed = []
        for run in state.open_runs:
            command = KillRun(run.run_id, operator, reason, self._clock())
            with contextlib.suppress(NothingRuns):  # it has ended since
                handled = await self._handler.handle(intent_id, command, traceparent=traceparent)
                killed.append(Killed(run.run_id, handled.changed))
        if not killed:
            raise NothingRuns("nothing of this intent runs any more")
        return killed

    async def _of_tenant(self, tenant_id: str, intent_id: UUID) -> IntentState:
        no_such = IntentNotFound(f"there is no intent {intent_id}")
        try:
            state = await self._repository.load(intent_id)
        except UnreadableStream as error:
            if error.tenant_id != tenant_id:
                raise no_such from None
            raise
        if state is None or state.tenant_id != tenant_id:
            raise no_such
        return state
