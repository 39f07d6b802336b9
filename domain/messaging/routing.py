"""Which messages an event causes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from domain.application.repository import IntentRepository
from domain.contracts.envelope import Envelope, child_of
from domain.contracts.job import (
    JOB_TYPE,
    JobFile,
    JobLimits,
    SandboxJob,
)
from domain.eventlog.intent_streams import NEXT_STEP, intent_of, typed
from domain.eventlog.models import RecordedEvent
from domain.intents.events import POISON, PlanningPostponed, SandboxRunRequested
from domain.intents.next_step import NO_STEP
from domain.intents.state import IntentState, Run
from domain.intents.struct import plain
from domain.messaging.publisher import OutgoingMessage
from domain.runs.inputs import inputs_of
from domain.runs.tokens import RunTokens

SOURCE = "/qlp/events"


@dataclass(frozen=True, slots=True)
class Destinations:
    """The entities that events are published to.

    Attributes:
        events_topic: for announcements.
        jobs_queue: for jobs.
        every_event: whether events that call for no step are announced too, for other subscribers.
    """

    events_topic: str
    jobs_queue: str
    every_event: bool = False


class Router:
    """Turns recorded events into messages, with ids derived from the events.

    An event after which its intent calls for a step is announced on the topic, without its content:
    consumers read the log, and people's words stay out of the bus. Others are announced where
    somebody else subscribes. A requested run becomes a job for the sandbox.
    """

    def __init__(
        self, repository: IntentRepository, destinations: Destinations, tokens: RunTokens
    ) -> None:
        self._repository = repository
        self._to = destinations
        self._tokens = tokens

    @property
    def every_event(self) -> bool:
        """Whether all events are announced, each after those before it in its stream."""
        return self._to.every_event

    async def messages_due(
        self, record: RecordedEvent, state: IntentState | None = None
    ) -> list[OutgoingMessage]:
        """The messages of one event that somebody must act on, or wants.

        Args:
            record: the event.
            state: of its intent, if it is known.

        Raises:
            see `messages_for`.
        """
        announced = self._to.every_event or _calls_for_step(record)
        return [
            *([self.announcement(record)] if announced else []),
            *await self._job(record, state),
        ]

    async def messages_for(self, record: RecordedEvent) -> list[OutgoingMessage]:
        """All messages of one event, whether or not anybody needs them.

        Raises:
            UnreadableStream: this release cannot read the stream; `announcement` can still be sent.
            ValueError: the event or its stream cannot be read; publishing it again won't help.
        """
        return [self.announcement(record), *await self._job(record)]

    def announcement(self, record: RecordedEvent) -> OutgoingMessage:
        """The message that announces an event; for a postponement, delivered when it is over.

        Raises:
            ValueError: it is not an event of an intent.
        """
        return _announcement(record, self._to.events_topic)

    async def _job(
        self, record: RecordedEvent, state: IntentState | None = None
    ) -> list[OutgoingMessage]:
        """The job of a requested run, if that is still wanted; of other events nothing."""
        if record.type != SandboxRunRequested.type:
            return []
        if state is None:
            state = await self._repository.load(intent_of(record.stream_id))
        requested = typed(record)
        if state is None or not isinstance(requested, SandboxRunRequested):
            return []
        run = state.run(requested.run_id)
        if run is None or run.outcome is not None or state.status.terminal:
            return []  # cancelled or finished since: the run is no longer needed
        token = self._tokens.issue(run.run_id, state.id, state.tenant_id)
        job = job_of(state, run, token)
        envelope = Envelope(
            id=str(run.run_id),
            source=SOURCE,
            type=JOB_TYPE,
            subject=str(state.id),
            time=record.recorded_at,
            tenantid=state.tenant_id,
            traceparent=child_of(record.traceparent),
            data=job.model_dump(mode="json", exclude_defaults=True),
        )
        return [
            OutgoingMessage(
                self._to.jobs_queue,
                envelope.id,
                envelope.type,
                str(state.id),
                envelope.encode(),
                run.not_before,
            )
        ]


def _calls_for_step(record: RecordedEvent) -> bool:
    """Whether the intent calls for a step after the event; of an earlier release's: perhaps."""
    try:
        return record.metadata.get(NEXT_STEP) != NO_STEP
    except (ValueError, AttributeError):
        return True


def _announcement(record: RecordedEvent, topic: str) -> OutgoingMessage:
    intent_id = str(intent_of(record.stream_id))
    envelope = Envelope(
        id=str(record.event_id),
        source=SOURCE,
        type=f"qlp.{record.type}",
        subject=intent_id,
        time=record.recorded_at,
        tenantid=record.tenant_id,
        traceparent=record.traceparent,
        data={"version": record.version},
    )
    not_before = None
    if record.type == PlanningPostponed.type:
        with suppress(*POISON):  # a consumer that is told too early reads the event, and waits
            event = typed(record)
            not_before = event.not_before if isinstance(event, PlanningPostponed) else None
    return OutgoingMessage(
        topic,
        envelope.id,
        envelope.type,
        intent_id,
        envelope.encode(),
        not_before,
        {"step": "yes" if _calls_for_step(record) else "no"},  # for a filter of a subscription
    )


def job_of(state: IntentState, run: Run, token: str | None = None) -> SandboxJob:
    """The job that asks the sandbox for ``run``, with the artifacts its step needs from others.

    Raises:
        ValueError: the plan has no such step.
    """
    step = state.step(run.step)
    if step is None:
        raise ValueError(
            f"intent {state.id}: a run was requested of a step that its plan does not have"
        )
    program = step.program
    return SandboxJob(
        run_id=run.run_id,
        intent_id=state.id,
        attempt=run.attempt,
        language=program.language,
        files=tuple(
            JobFile(path=file.path, content=file.content, encoding=file.encoding)
            for file in program.files
        ),
        entrypoint=program.entrypoint,
        args=program.args,
        stdin=program.stdin,
        environment=program.environment,
        limits=JobLimits.model_validate(plain(run.limits or program.limits)),
        token=token,
        inputs=inputs_of(state, step),
    )
