"""One command against one intent: load, decide, append; again if another writer was faster.

The steps that follow from it at once are decided with it and appended with it, under its id: a
submitted program is planned, and its run requested, in the transaction that accepts the intent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from domain.application.repository import IntentRepository
from domain.application.steps import Prepared
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
from domain.intents.events import IntentEvent
from domain.intents.evolve import fold
from domain.intents.ids import derived_id
from domain.intents.refusals import IntentRefused
from domain.intents.run_decisions import run_id_of
from domain.intents.state import IntentState

#: An intent has few writers; more conflicts than this in a row mean something is wrong.
MAX_CONFLICTS = 20


@dataclass(frozen=True, slots=True)
class Handled:
    """The outcome of a command.

    Attributes:
        state: the intent afterwards.
        changed: whether this call appended events.
    """

    state: IntentState
    changed: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Events that were committed, and the intent after them."""

    state: IntentState
    records: Sequence[RecordedEvent]


class StepsAtOnce(Protocol):
    """Prepares the steps that nobody else has to be asked for."""

    async def prepare_at_once(self, state: IntentState) -> Prepared | None:
        """See `domain.application.steps.Steps.prepare_at_once`."""


class CommandHandler:
    """Carries out commands, each with the steps that follow at once, in one append."""

    def __init__(
        self,
        repository: IntentRepository,
        on_change: Callable[[Change], None],
        steps: StepsAtOnce | None = None,
    ) -> None:
        """Build it from its parts.

        Args:
            repository: loads and saves intents.
            on_change: called after every committed change of an intent.
            steps: those that follow at once; None: all are left to the process manager.
        """
        self._repository = repository
        self._on_change = on_change
        self._steps = steps

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
        # Most submissions are of new intents: assume so, the append finds out. So it does about a
        # state that is remembered; but what appends nothing, or is refused, is decided anew.
        submits = isinstance(command, SubmitIntent)
        state = None if submits else self._repository.recent(intent_id)
        remembered = state is not None
        if not submits and state is None:
            state = await self._repository.load(intent_id)
        for _ in range(MAX_CONFLICTS):
            try:
                decided = await self._decide(command, state, inline)
            except IntentRefused:
                if not remembered:
                    raise
                decided = None
            if decided is None and state is not None and not remembered:
                return Handled(state, changed=False)
            if decided is not None:
                handled = await self._save(intent_id, command, state, decided, traceparent)
                if handled is not None:
                    return handled
            state, remembered = await self._repository.load(intent_id), False
        raise RuntimeError(f"intent {intent_id}: too many concurrent changes")

    async def _decide(
        self, command: Command, state: IntentState | None, inline: Sequence[InlineWrite]
    ) -> _Decided | None:
        """The events of a command, and of the steps that follow at once; None if it has none."""
        events = [*decide(command, state)]
        after = fold(events, state)
        if not events or after is None:
            return None
        writes = [*inline]
        while self._steps is not None and (step := await self._steps.prepare_at_once(after)):
            if not (following := decide(step.command, after)):
                break
            events += following
            writes += step.inline
            after = fold(following, after) or after
        return _Decided(events, after, writes)

    async def _save(
        self,
        intent_id: UUID,
        command: Command,
        state: IntentState | None,
        decided: _Decided,
        traceparent: str,
    ) -> Handled | None:
        """Append what was decided; None if the intent has moved on since ``state``."""
        try:
            saved = await self._repository.save(
                state,
                decided.after,
                decided.events,
                command_id=command_id_of(intent_id, command),
                traceparent=traceparent,
                extra=decided.inline,
            )
        except WrongExpectedVersion:
            return None
        if saved.duplicate:
            return await self._repeated(intent_id, command)
        self._on_change(Change(decided.after, saved.events))
        return Handled(decided.after, changed=True)

    async def _repeated(self, intent_id: UUID, command: Command) -> Handled:
        state = await self._repository.load(intent_id)
        if state is None:
            raise RuntimeError(f"intent {intent_id}: recorded events cannot be read back")
        if isinstance(command, SubmitIntent):
            decide(command, state)  # refuses other content under the same key
        return Handled(state, changed=False)


@dataclass(frozen=True, slots=True)
class _Decided:
    events: Sequence[IntentEvent]
    after: IntentState
    inline: Sequence[InlineWrite]


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
