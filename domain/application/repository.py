"""Intents in and out of the event log: streams, states and their read-model rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.contracts.job import DEFAULT_WALL_SECONDS
from domain.eventlog.log import EventLog
from domain.eventlog.models import InlineWrite, NewEvent, RecordedEvent
from domain.intents.content import Limits, Program
from domain.intents.events import (
    POISON,
    IntentEvent,
    NewerEvent,
    UnknownEvent,
    UnreadableEvent,
    revive,
)
from domain.intents.evolve import CorruptStream, evolve, fold
from domain.intents.ids import derived_id
from domain.intents.state import IntentState, Run, Status, Step
from domain.intents.value import plain
from domain.intents.values import Author, RunOutcome
from domain.projections.intents import IntentRow, upsert
from domain.similarity.embedder import text_hash

_PREFIX = "intent-"
_PAGE = 500


def stream_of(intent_id: UUID) -> str:
    """The stream that holds an intent's events."""
    return f"{_PREFIX}{intent_id}"


def intent_of(stream_id: str) -> UUID:
    """The intent whose stream this is.

    Raises:
        ValueError: not the stream of an intent.
    """
    if not stream_id.startswith(_PREFIX):
        raise ValueError(f"{stream_id!r} is not the stream of an intent")
    return UUID(stream_id.removeprefix(_PREFIX))


def typed(record: RecordedEvent) -> IntentEvent | UnknownEvent:
    """The domain event of a record; see `EventRegistry.revive`."""
    return revive(record.type, record.schema_version, record.data_json)


class UnreadableStream(ValueError):
    """The events of an intent that this release cannot fold: nothing can be decided about it.

    A later release may be able to: the message says what is in the way, and nothing personal.

    Attributes:
        tenant_id: whose stream it is.
    """

    def __init__(self, record: RecordedEvent, error: Exception) -> None:
        says_why = isinstance(error, NewerEvent | UnreadableEvent | CorruptStream)
        why = str(error) if says_why else type(error).__name__
        super().__init__(f"{record.stream_id}, event {record.version}: {why}")
        self.tenant_id = record.tenant_id


def folding(records: Iterable[RecordedEvent]) -> Iterator[tuple[RecordedEvent, IntentState]]:
    """Each event of a stream, from its first on, with the state after it.

    Raises:
        UnreadableStream: at the event that cannot be folded.
    """
    state: IntentState | None = None
    for version, record in enumerate(records, 1):
        try:
            if record.version != version:
                raise CorruptStream(f"event {version} is missing")
            state = evolve(state, typed(record))
        except POISON as error:
            raise UnreadableStream(record, error) from error
        yield record, state


def folded(records: Iterable[RecordedEvent]) -> IntentState | None:
    """The state after all events of a stream; None for an empty one.

    Raises:
        UnreadableStream: at the event that cannot be folded.
    """
    state: IntentState | None = None
    for _, state in folding(records):  # noqa: B007 the last one counts
        continue
    return state


@dataclass(frozen=True, slots=True)
class Saved:
    """What `IntentRepository.save` did.

    Attributes:
        records: the events of the command, recorded now or before.
        duplicate: the command had been recorded before; nothing was written.
        state: the intent after the given events; not what the log says for a duplicate.
    """

    records: list[RecordedEvent]
    duplicate: bool
    state: IntentState


class IntentRepository:
    """Loads and saves intents; the read-model row changes in the transaction of the events."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def history(self, intent_id: UUID) -> list[RecordedEvent]:
        """All events of an intent in order; empty if there is none."""
        records: list[RecordedEvent] = []
        while True:
            after = records[-1].version if records else 0
            page = await self._log.read_stream(stream_of(intent_id), after, _PAGE)
            records += page
            if len(page) < _PAGE:
                return records

    async def load(self, intent_id: UUID) -> IntentState | None:
        """The intent as its events tell it; None if there is none.

        Raises:
            UnreadableStream: this release cannot tell.
        """
        return folded(await self.history(intent_id))

    async def save(
        self,
        before: IntentState | None,
        events: Sequence[IntentEvent],
        *,
        command_id: UUID,
        traceparent: str,
        extra: Sequence[InlineWrite] = (),
    ) -> Saved:
        """Append ``events`` and bring the read model along, in one transaction.

        Raises:
            WrongExpectedVersion: the stream has moved on since ``before`` was loaded.
        """
        after = fold(events, before)
        if after is None:
            raise ValueError("nothing to save")
        result = await self._log.append(
            stream_of(after.id),
            after.tenant_id,
            before.version if before else 0,
            command_id,
            [
                NewEvent(
                    event_id=derived_id(command_id, str(index)),
                    type=event.type,
                    schema_version=event.schema_version,
                    data=plain(event),
                )
                for index, event in enumerate(events)
            ],
            {"traceparent": traceparent},
            [upsert(row_of(after)), *extra],
        )
        return Saved(result.events, result.duplicate, after)


def row_of(state: IntentState) -> IntentRow:
    """The read-model row of a state."""
    step = state.result_step
    program = step.program if step is not None else state.content.program
    text = state.content.text
    return IntentRow(
        id=state.id,
        tenant_id=state.tenant_id,
        version=state.version,
        status=state.status.value,
        user_input=text or "",
        text_sha256=text_hash(text) if text else None,
        language=program.language if program else None,
        created_at=state.submitted_at,
        updated_at=state.updated_at,
        expected_by=expected_by(state),
        completed_at=state.completed_at,
        reused_from=state.reused_from,
        details=_details_of(state, program),
        outcome=outcome_of(state),
    )


def _details_of(state: IntentState, program: Program | None) -> dict[str, Any]:
    """What clients see of a submission and its program beside the sentence; contents are in events.

    The limits are those that the latest run was given; before there is one, those asked for.
    """
    limits = next((run.limits for run in reversed(state.runs) if run.limits is not None), None)
    if limits is None and program is not None:
        limits = program.limits
    return {
        "metadata": dict(state.content.metadata),
        "planning": plain(state.content.planning),
        "program": None if program is None else _summary_of(program),
        "limits": None if limits is None else plain(limits),
    }


def _summary_of(program: Program) -> dict[str, Any]:
    return {
        "language": program.language,
        "entrypoint": program.entrypoint,
        "files": [{"path": file.path, "size": file.size} for file in program.files],
    }


def expected_by(state: IntentState) -> datetime | None:
    """When the next event is due: a run may take its wall-clock limit, all else no time."""
    if state.status.terminal:
        return None
    delays = [state.delay, *(step.delay for step in state.steps)]
    due = [delay.not_before for delay in delays if delay.not_before is not None]
    due += [_end_of(run, state) for run in state.open_runs]
    return max(state.updated_at, min(due, default=state.updated_at))


def _end_of(run: Run, state: IntentState) -> datetime:
    started = max(state.updated_at, run.not_before or state.updated_at)
    step = state.step(run.step)
    limits = run.limits or (step.program.limits if step is not None else Limits())
    return started + timedelta(seconds=limits.wall_seconds or DEFAULT_WALL_SECONDS)


_SAID_IF_SO = (
    "warm",
    "artifacts",
    "skipped_artifacts",
    "more_skipped_artifacts",
    "behaviour",
)


def outcome_of(state: IntentState) -> dict[str, Any] | None:
    """What came of a finished intent, as clients see it; None while it is under way."""
    if not state.status.terminal:
        return None
    outcome: dict[str, Any] = {}
    run = state.telling_run
    if run is not None and run.outcome is not None:
        outcome = _run_outcome(run, run.outcome)
    # What says nothing is left out: so rows from before there was such a thing still agree.
    if len(state.steps) > 1:
        outcome["steps"] = [_step_outcome(state, step) for step in state.steps]
    if state.author is not None:
        outcome["plan"] = _plan_of(state, state.author)
    if state.usage.calls:
        outcome["model_usage"] = {
            "calls": state.usage.calls,
            "input_tokens": state.usage.input_tokens,
            "output_tokens": state.usage.output_tokens,
            "cost_usd": state.usage.cost_microusd / 1e6,
        }
    if state.status is Status.FAILED and state.failure is not None:
        outcome["error"] = plain(state.failure)
    return outcome


def _run_outcome(run: Run, outcome: RunOutcome) -> dict[str, Any]:
    said = plain(outcome)
    del said["retryable"]
    for key in _SAID_IF_SO:
        if key in said and not said[key]:
            del said[key]
    said["run_id"] = str(run.run_id)
    said["attempts"] = run.attempt
    return said


def _step_outcome(state: IntentState, step: Step) -> dict[str, Any]:
    """A step of a plan of several; what it printed is in the events."""
    said: dict[str, Any] = {"name": step.name, "needs": list(step.needs)}
    run = next(reversed(state.runs_of(step.name)), None)
    if run is None or run.outcome is None:
        return said
    ran = _run_outcome(run, run.outcome)
    return said | {key: ran[key] for key in _OF_STEP if key in ran}


_OF_STEP = ("verdict", "exit_code", "signal", "run_id", "attempts", "usage", "artifacts")


def _plan_of(state: IntentState, author: Author) -> dict[str, Any]:
    said: dict[str, Any] = {"source": state.plan_source, **plain(author)}
    if state.explanation:
        said["explanation"] = state.explanation
    if state.reused_from is not None:
        said["reused_from"] = str(state.reused_from)
    return said
