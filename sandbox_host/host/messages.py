"""Reads job messages and writes result messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from azure.servicebus import ServiceBusReceivedMessage
from pydantic import ValidationError
from pydantic_core import to_json

from domain.contracts.envelope import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    InvalidEnvelope,
    child_of,
)
from domain.contracts.job import (
    JOB_TYPE,
    MAX_JOB_NODES,
    RESULT_TYPE,
    SandboxJob,
    SandboxResult,
    Verdict,
)
from domain.contracts.redaction import redact
from domain.contracts.strict_json import read_as
from domain.contracts.validation import describe
from sandbox_host.run.job import InvalidJob, PreparedJob, prepare
from sandbox_host.run.output import cut_to_json_size, json_bytes
from sandbox_host.run.wording import without_paths

SOURCE = "/sandbox-host"
CONTENT_TYPE = "application/cloudevents+json"

#: Maximum characters of an error text in a result.
_MAX_ERROR = 2000


class Unreadable(ValueError):
    """The message cannot be answered, because nothing says which run it is for.

    Attributes:
        reason: short name, used as the message's dead-letter reason.
    """

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(description)
        self.reason = reason


class Refused(ValueError):
    """The job cannot run, but its IDs are known, so a result can say why.

    Attributes:
        verdict: ``invalid_job``, or ``infrastructure_error`` if another host may be able to run it.
    """

    def __init__(
        self, run_id: UUID, intent_id: UUID, why: str, verdict: Verdict = Verdict.INVALID_JOB
    ) -> None:
        super().__init__(why)
        self.run_id = run_id
        self.intent_id = intent_id
        self.verdict = verdict


def body_of(message: ServiceBusReceivedMessage) -> bytes:
    """The bytes of a message.

    Raises:
        Unreadable: it was sent as an AMQP value or sequence.
    """
    body = message.body
    try:
        return body if isinstance(body, bytes) else b"".join(body)
    except TypeError:
        raise Unreadable("UnsupportedBody", "send the envelope as AMQP data (bytes)") from None


def read_envelope(body: bytes) -> Envelope:
    """The envelope of a job message.

    Raises:
        Unreadable: it is not an envelope, or has another type.
    """
    try:
        envelope = Envelope.decode(body)
    except InvalidEnvelope as error:
        raise Unreadable("InvalidEnvelope", str(error)) from None
    if envelope.type != JOB_TYPE:
        raise Unreadable("UnexpectedType", f"type: {envelope.type!r}, expected {JOB_TYPE!r}")
    return envelope


def read_job(envelope: Envelope) -> PreparedJob:
    """The job in an envelope, checked.

    Raises:
        Refused: the job is invalid, but its IDs can be read.
        Unreadable: the job is invalid, and so are its IDs.
    """
    try:
        job = read_as(SandboxJob, to_json(envelope.data), max_nodes=MAX_JOB_NODES)
    except ValidationError as error:
        why = describe(error, "data")
        run_id, intent_id = _uuid(envelope.data, "run_id"), _uuid(envelope.data, "intent_id")
        if run_id is None or intent_id is None:
            raise Unreadable("InvalidJob", why) from None
        if all(each["type"] == "extra_forbidden" for each in error.errors(include_input=False)):
            why = f"this host is older than the application; the job has fields unknown here: {why}"
            raise Refused(run_id, intent_id, why, Verdict.INFRASTRUCTURE_ERROR) from None
        raise Refused(run_id, intent_id, why) from None
    try:
        return prepare(job)
    except InvalidJob as error:
        raise Refused(job.run_id, job.intent_id, f"data.{error}") from None


def failure(run_id: UUID, intent_id: UUID, verdict: Verdict, error: str) -> SandboxResult:
    """The result of a run that never took place; clients see ``error``.

    Of this host's own failures they learn what failed, but no paths and no URLs.
    """
    if verdict is Verdict.INFRASTRUCTURE_ERROR:
        error = without_paths(redact(error))
    return SandboxResult(
        run_id=run_id, intent_id=intent_id, verdict=verdict, error=error[:_MAX_ERROR]
    )


@dataclass(frozen=True)
class Reply:
    """A result, ready to be sent as often as needed.

    Attributes:
        message_id: derived from the run's ID, so that a repeated result can be recognised.
        correlation_id: the intent's id.
        body: the encoded envelope.
    """

    message_id: str
    correlation_id: str
    body: bytes


def reply(cause: Envelope, result: SandboxResult) -> Reply:
    """Wrap ``result`` in the envelope that answers ``cause``, cut to the size of a message."""
    identity = str(uuid5(result.run_id, "result"))
    empty = Envelope(
        id=identity,
        source=SOURCE,
        type=RESULT_TYPE,
        subject=cause.subject,
        time=datetime.now(UTC),
        tenantid=cause.tenantid,
        traceparent=child_of(cause.traceparent),
    )
    data = fitting(result, MAX_ENVELOPE_BYTES - len(empty.encode())).model_dump(mode="json")
    envelope = empty.model_copy(update={"data": data})
    return Reply(identity, str(result.intent_id), envelope.encode())


def fitting(result: SandboxResult, max_bytes: int) -> SandboxResult:
    """``result`` with its streams cut so that it takes at most ``max_bytes`` of JSON.

    A result's other fields, at their largest, leave 70 KB for the streams.
    """
    size = len(result.model_dump_json().encode())
    if size <= max_bytes:
        return result
    stdout, stderr = json_bytes(result.stdout), json_bytes(result.stderr)
    left = max(0, max_bytes - (size - stdout - stderr))
    for_stdout = min(stdout, max(left // 2, left - stderr))
    for_stderr = min(stderr, left - for_stdout)
    return result.model_copy(
        update={
            "stdout": cut_to_json_size(result.stdout, for_stdout),
            "stderr": cut_to_json_size(result.stderr, for_stderr),
            "stdout_truncated": result.stdout_truncated or for_stdout < stdout,
            "stderr_truncated": result.stderr_truncated or for_stderr < stderr,
        }
    )


def _uuid(data: dict[str, Any], field: str) -> UUID | None:
    try:
        return UUID(str(data.get(field)))
    except ValueError:
        return None
