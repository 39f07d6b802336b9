"""One command against one intent: load, decide, append; again if another writer was faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.application.repository import IntentRepository
from domain.eventlog.models import InlineWrite, RecordedEvent, WrongExpectedVersion
from domain.intents.commands import (
    CancelIntent,
    Command,
    KillRun,
    PostponePlanning,
    RecordPlan,
    RecordRepair,
    RecordRun,
    RejectPlan,
    RejectRepair,
    RequestRun,
    SubmitIntent,
)
from domain.intents.decider import decide
from domain.intents.ids import derived_id
from domain.intents.run_decisions import run_id_of
from domain.intents.state import IntentState

#: An intent has few writers; more conflicts than this in a row mean something is wrong.
MAX_CONFLICTS = 20


@dataclass(frozen=True, slots=True)
class Handled:
    """The outcome of a command.

    Attributes:
        state: the intent afterwards.
        records: the events that the command caused, now or when it was first given.
        changed: whether this call appended them.
    """

    state: IntentState
    records: list[RecordedEvent]
    changed: bool


class CommandHandler:
    """Carries out commands; calls ``on_change`` after every committed change of an intent."""

    def __init__(
        self, repository: IntentRepository, on_change: Callable[[IntentState], None]
    ) -> None:
        self._repository = repository
        self._on_change = on_change

    async def handle(
        self,
        intent_id: UUID,
        command: Command,
        *,
        traceparent: str,
        inline: Sequence[InlineWrite] = (),
    ) -> Handled:
        """Carry out ``command``; a repeated one returns its first outcome.

        Args:
            intent_id: the intent it is for.
            command: what to do.
            traceparent: recorded with the events.
            inline: writes to be made in the transaction of the events.

        Raises:
            IntentRefused: see `domain.intents.decider.decide`.
        """
        # Most submissions are of new intents: assume so, the append finds out.
        state = (
            None if isinstance(command, SubmitIntent) else await self._repository.load(intent_id)
        )
        command_id = command_id_of(intent_id, command)
        for _ in range(MAX_CONFLICTS):
            events = decide(command, state)
            if not events and state is not None:
                return Handled(state, [], changed=False)
            try:
                saved = await self._repository.save(
                    state, events, command_id=command_id, traceparent=traceparent, extra=inline
                )
            except WrongExpectedVersion:
                state = await self._repository.load(intent_id)
                continue
            if saved.duplicate:
                return await self._repeated(intent_id, command, saved.records)
            self._on_change(saved.state)
            return Handled(saved.state, saved.records, changed=True)
        raise RuntimeError(f"intent {intent_id}: too many concurrent changes")

    async def _repeated(
        self, intent_id: UUID, command: Command, records: list[RecordedEvent]
    ) -> Handled:
        state = await self._repository.load(intent_id)
        if state is None:
            raise RuntimeError(f"intent {intent_id}: recorded events cannot be read back")
        if isinstance(command, SubmitIntent):
            decide(command, state)  # refuses other content under the same key
        return Handled(state, records, changed=False)


def command_id_of(intent_id: UUID, command: Command) -> UUID:
    """The id of a command, derived from what it is for: a repetition has the same id."""
    match command:
        case SubmitIntent():
            return derived_id(intent_id, "submit")
        case CancelIntent():
            return cancel_id(intent_id)
        case RecordPlan() | RejectPlan():
            return derived_id(intent_id, "plan")
        case RecordRepair() | RejectRepair():
            return derived_id(command.run_id, "repair")
        case PostponePlanning():
            return derived_id(command.run_id or intent_id, f"postpone-{command.attempt}")
        case RequestRun():
            return derived_id(run_id_of(intent_id, command.attempt, command.step), "request")
        case KillRun():
            return derived_id(command.run_id, "kill")
        case RecordRun():
            return finished_id(command.run_id)


def cancel_id(intent_id: UUID) -> UUID:
    """The id of the command that cancels an intent."""
    return derived_id(intent_id, "cancel")


def finished_id(run_id: UUID) -> UUID:
    """The id of the command that records a run's end."""
    return derived_id(run_id, "finished")
