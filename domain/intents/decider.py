"""The decisions: which events follow from a command."""

from __future__ import annotations

from collections.abc import Sequence

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
from domain.intents.events import IntentCancelled, IntentEvent, IntentSubmitted
from domain.intents.plan_decisions import decide_plan, decide_postponement, decide_repair
from domain.intents.refusals import IntentAlreadyFinished, IntentNotFound, SubmissionConflict
from domain.intents.run_decisions import decide_end, decide_kill, decide_request
from domain.intents.state import IntentState, Status


def decide(command: Command, state: IntentState | None) -> Sequence[IntentEvent]:
    """The events that ``command`` causes in ``state``; empty when it changes nothing.

    A repeated, late or stale internal command changes nothing, so duplicates and reordering of
    the messages that carry them are harmless.

    Raises:
        IntentNotFound: any command but SubmitIntent on an empty stream.
        IntentAlreadyFinished: CancelIntent after success or failure.
        NothingRuns: KillRun for a run that is not open.
        SubmissionConflict: SubmitIntent repeated with other content.
    """
    if isinstance(command, SubmitIntent):
        return _submit(command, state)
    if state is None:
        raise IntentNotFound("no such intent")
    match command:
        case CancelIntent():
            return _cancel(command, state)
        case RecordPlan() | RejectPlan():
            return decide_plan(command, state)
        case RecordRepair() | RejectRepair():
            return decide_repair(command, state)
        case PostponePlanning():
            return decide_postponement(command, state)
        case RequestRun():
            return decide_request(command, state)
        case KillRun():
            return decide_kill(command, state)
        case RecordRun():
            return decide_end(command, state)


def _submit(command: SubmitIntent, state: IntentState | None) -> Sequence[IntentEvent]:
    fingerprint = command.content.fingerprint()
    if state is None:
        return [
            IntentSubmitted(
                at=command.at,
                intent_id=command.intent_id,
                tenant_id=command.tenant_id,
                origin=command.origin,
                content=command.content,
                fingerprint=fingerprint,
            )
        ]
    if state.fingerprint != fingerprint:
        raise SubmissionConflict("this key was used before for different content")
    return []


def _cancel(command: CancelIntent, state: IntentState) -> Sequence[IntentEvent]:
    if state.status is Status.CANCELLED:
        return []
    if state.status.terminal:
        raise IntentAlreadyFinished(f"the intent has already {state.status}")
    return [IntentCancelled(at=command.at, reason=command.reason)]
