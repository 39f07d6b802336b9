"""Takes in the messages of the three entities the application consumes.

Two kinds of message are recorded with the reason (`RejectedMessages`) and removed from the queue:
those that can never be processed, and those that only another release can process. A Functions
trigger written in Python cannot dead-letter a message, and if it raised, the message would only
come back.
Anything unexpected is raised, so that the message is tried again later
(`domain.messaging.redelivery`) and finally dead-lettered.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from pydantic import ValidationError

from domain.access.store import ApiKeys
from domain.application.admission import NotAdmitted
from domain.application.handler import CommandHandler
from domain.application.process_manager import ProcessManager
from domain.application.repository import IntentRepository
from domain.application.service import IntentService
from domain.contracts.envelope import (
    Envelope,
    InvalidEnvelope,
    child_of,
    event_key,
)
from domain.contracts.job import RESULT_TYPE, SandboxResult, Verdict
from domain.contracts.validation import describe
from domain.eventlog.intent_streams import UnreadableStream
from domain.intents.commands import RecordRun
from domain.intents.content import IntentContent
from domain.intents.event_parts import RunArtifact, RunOutcome
from domain.intents.refusals import SubmissionConflict
from domain.intents.struct import checked
from domain.messaging.message_ids import message_ids_of
from domain.messaging.rejected import NEWER_RESULT, UNREADABLE_STREAM, RejectedMessages
from domain.retry import retry_while_unavailable
from domain.runs.artifacts import Artifacts, Claimed
from domain.runs.behaviour import suspicions
from domain.telemetry import security_event

logger = logging.getLogger(__name__)

SUBMIT_TYPE = "qlp.intent.submit"


class Unprocessable(Exception):
    """The message can never be processed."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(f"{reason}: {description}")
        self.reason = reason
        self.description = description


class Inbox:
    """One method per entity; each is safe to call again with the same message."""

    def __init__(
        self,
        service: IntentService,
        repository: IntentRepository,
        handler: CommandHandler,
        process_manager: ProcessManager,
        tenants: ApiKeys,
        artifacts: Artifacts,
        rejected: RejectedMessages,
        clock: Callable[[], datetime],
    ) -> None:
        self._service = service
        self._repository = repository
        self._handler = handler
        self._process_manager = process_manager
        self._tenants = tenants
        self._artifacts = artifacts
        self._rejected = rejected
        self._clock = clock

    async def intent(self, source: str, body: bytes) -> None:
        """A producer's ``qlp.intent.submit`` with an IntentContent."""
        await self._take(source, body, self._submit)

    async def announcement(self, source: str, body: bytes) -> None:
        """An event was recorded: take the next step of its intent."""
        await self._take(source, body, self._advance)

    async def result(self, source: str, body: bytes) -> None:
        """The sandbox host reports the end of a run."""
        await self._take(source, body, self._record_run)

    async def _take(
        self, source: str, body: bytes, process: Callable[[Envelope], Awaitable[None]]
    ) -> None:
        try:
            envelope = Envelope.decode(body)
            await retry_while_unavailable(lambda: process(envelope))
        except InvalidEnvelope as error:
            await self._reject(source, body, Unprocessable("InvalidEnvelope", str(error)))
        except Unprocessable as error:
            await self._reject(source, body, error)
        except UnreadableStream as error:
            # Kept for the release that can read it, see `domain.messaging.held`: neither lost nor
            # delivered over and over.
            logger.warning("message from %s is held back: %s", source, error)
            await self._reject(source, body, Unprocessable(UNREADABLE_STREAM, str(error)))

    async def _reject(self, source: str, body: bytes, error: Unprocessable) -> None:
        ids = message_ids_of(body)
        await retry_while_unavailable(
            lambda: self._rejected.record(
                source=source,
                tenant_id=ids.tenant_id,
                reason=error.reason,
                description=error.description,
                body=body,
                message_id=ids.event_id,
                traceparent=ids.traceparent,
            )
        )

    async def _submit(self, envelope: Envelope) -> None:
        if envelope.type != SUBMIT_TYPE:
            raise Unprocessable(
                "UnknownType", f"type: expected {SUBMIT_TYPE!r}, found {envelope.type[:100]!r}"
            )
        if not await self._tenants.tenant_exists(envelope.tenantid):
            raise Unprocessable("UnknownTenant", f"tenantid: no tenant {envelope.tenantid!r}")
        try:
            content = checked(IntentContent, envelope.data)
        except ValidationError as error:
            raise Unprocessable("InvalidIntent", describe(error, "data")) from None
        try:
            await self._service.submit(
                envelope.tenantid,
                content,
                origin="service_bus",
                key=event_key(envelope.source, envelope.id),
                traceparent=child_of(envelope.traceparent),
            )
        except NotAdmitted as error:
            field = "data" + error.pointer.replace("/", ".")
            raise Unprocessable("InvalidIntent", f"{field}: {error.detail}") from None
        except SubmissionConflict:
            raise Unprocessable(
                "SubmissionConflict",
                "id: this source and id were used before for a different intent",
            ) from None

    async def _advance(self, envelope: Envelope) -> None:
        await self._process_manager.advance(
            _intent_id(envelope), traceparent=child_of(envelope.traceparent)
        )

    async def _record_run(self, envelope: Envelope) -> None:
        if envelope.type != RESULT_TYPE:
            raise Unprocessable(
                "UnknownType", f"type: expected {RESULT_TYPE!r}, found {envelope.type[:100]!r}"
            )
        try:
            # A newer host may send more fields, but its verdict must be known.
            result = checked(SandboxResult, envelope.data, ignore_unknown=True)
        except ValidationError as error:
            if all(each["type"] == "enum" for each in error.errors(include_input=False)):
                raise Unprocessable(NEWER_RESULT, describe(error, "data")) from None
            raise Unprocessable("InvalidResult", describe(error, "data")) from None
        state = self._repository.recent(result.intent_id)
        if state is None:
            state = await self._repository.load(result.intent_id)
        if state is None or state.tenant_id != envelope.tenantid:
            raise Unprocessable("UnknownIntent", f"data.intent_id: no intent {result.intent_id}")
        claimed = await self._artifacts.claim(state.tenant_id, result)
        command = RecordRun(result.run_id, outcome_from(result, claimed), self._clock())
        handled = await self._handler.handle(
            result.intent_id,
            command,
            traceparent=child_of(envelope.traceparent),
            inline=claimed.writes,
        )
        if handled.changed:
            _report(state.tenant_id, result)


def _intent_id(envelope: Envelope) -> UUID:
    try:
        return UUID(envelope.subject or "")
    except ValueError:
        raise Unprocessable("InvalidEnvelope", "subject: must be the id of an intent") from None


def _report(tenant_id: str, result: SandboxResult) -> None:
    for suspicion in suspicions(result.behaviour.model_dump()):
        security_event(
            suspicion.kind,
            tenant=tenant_id,
            intent=str(result.intent_id),
            run=str(result.run_id),
            subject=suspicion.subject or None,
            times=suspicion.count,
        )


def outcome_from(result: SandboxResult, claimed: Claimed) -> RunOutcome:
    """The sandbox's result as a `RunOutcome`, with the artifacts that were claimed."""
    return RunOutcome(
        verdict=result.verdict.value,
        retryable=result.verdict is Verdict.INFRASTRUCTURE_ERROR,
        usage=result.usage.model_dump(exclude_none=True) if result.usage else {},
        artifacts=tuple(
            RunArtifact(name=each.name, size=each.size, sha256=each.sha256)
            for each in claimed.artifacts
        ),
        skipped_artifacts=tuple(
            each.model_dump() for each in (*result.skipped_artifacts, *claimed.skipped)
        ),
        behaviour=result.behaviour.model_dump(
            mode="json", exclude_defaults=True, exclude_none=True
        ),
        **result.model_dump(include=_SAME_IN_BOTH),
    )


_SAME_IN_BOTH = {
    "exit_code",
    "signal",
    "stdout",
    "stderr",
    "stdout_truncated",
    "stderr_truncated",
    "runtime",
    "image",
    "error",
    "warm",
    "more_skipped_artifacts",
}
