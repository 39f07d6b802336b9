"""Which messages an event causes."""

from __future__ import annotations

from dataclasses import dataclass

from domain.eventlog.models import RecordedEvent
from domain.intents.content import Program
from domain.intents.events import SandboxRunRequested
from domain.intents.state import IntentState, Run
from domain.messaging.envelope import Envelope
from domain.messaging.publisher import OutgoingMessage
from domain.repository import IntentRepository, intent_of, typed
from domain.sandbox.contract import JOB_TYPE, JobFile, JobLimits, SandboxJob
from domain.telemetry import child_of

SOURCE = "/qlp/events"


@dataclass(frozen=True, slots=True)
class Destinations:
    """The entities the relay publishes to."""

    events_topic: str
    jobs_queue: str


class Router:
    """Turns recorded events into messages, with ids derived from the events.

    Every event is announced on the topic, without its content: consumers read the log, and
    people's words stay out of the bus. A requested run also becomes a job for the sandbox.
    """

    def __init__(self, repository: IntentRepository, destinations: Destinations) -> None:
        self._repository = repository
        self._to = destinations

    async def messages_for(self, record: RecordedEvent) -> list[OutgoingMessage]:
        """The messages of one event.

        Raises:
            ValueError: the event or its stream cannot be read; publishing it again won't help.
        """
        messages = [self._announcement(record)]
        if record.type == SandboxRunRequested.type:
            messages += await self._job(record)
        return messages

    def _announcement(self, record: RecordedEvent) -> OutgoingMessage:
        intent_id = str(intent_of(record.stream_id))
        envelope = Envelope(
            id=str(record.event_id),
            source=SOURCE,
            type=f"qlp.{record.type}",
            subject=intent_id,
            time=record.recorded_at,
            tenantid=record.tenant_id,
            traceparent=record.metadata.get("traceparent"),
            data={"version": record.version, "position": record.position},
        )
        return OutgoingMessage(
            self._to.events_topic, envelope.id, envelope.type, intent_id, envelope.encode()
        )

    async def _job(self, record: RecordedEvent) -> list[OutgoingMessage]:
        state = await self._repository.load(intent_of(record.stream_id))
        run = state.open_run if state is not None else None
        requested = typed(record)
        if (
            state is None
            or run is None
            or state.status.terminal
            or not isinstance(requested, SandboxRunRequested)
            or run.run_id != requested.run_id
        ):
            return []  # cancelled or finished since: nobody waits for this run any more
        program = state.program
        if program is None:
            raise ValueError(f"intent {state.id}: a run was requested without a program")
        envelope = Envelope(
            id=str(run.run_id),
            source=SOURCE,
            type=JOB_TYPE,
            subject=str(state.id),
            time=record.recorded_at,
            tenantid=state.tenant_id,
            traceparent=child_of(record.metadata.get("traceparent")),
            data=job_of(state, run, program).model_dump(mode="json", exclude_defaults=True),
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


def job_of(state: IntentState, run: Run, program: Program) -> SandboxJob:
    """The job that asks the sandbox for ``run`` of an intent's ``program``."""
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
        limits=JobLimits.model_validate(program.limits.model_dump(exclude_none=True)),
    )
