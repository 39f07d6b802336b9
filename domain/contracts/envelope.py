"""CloudEvents 1.0 envelopes, JSON in the message body.

Everything a consumer needs is in the body: in batch triggers the Functions host drops empty
entries of the per-message metadata arrays and shifts their indexes (Azure/Azure-Functions#2084),
so nothing outside the body can be trusted. Hence structured mode: one event per message.

Source: CloudEvents 1.0.2, https://github.com/cloudevents/spec: its JSON format, and the
*Distributed Tracing* extension for ``traceparent``, which makes one trace from a client's request
to the sandbox's result (https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from domain.contracts.cloudevent import MAX_ATTRIBUTE_BYTES, NoCloudEvent, read_event, timestamp
from domain.contracts.validation import describe, matching

#: Service Bus Standard refuses messages over 256 KB; headers need some of it.
MAX_ENVELOPE_BYTES = 240 * 1024

#: Lower-case letters, digits and inner hyphens, as in DNS labels.
TENANT_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z"

#: W3C Trace Context, section "Versioning of traceparent": in versions after 00, more fields may
#: follow after another hyphen; ff is not a version; surrounding blanks are ignored.
TRACEPARENT_PATTERN = (
    r"^[ \t]*(?!ff)(?!00-\w+-\w+-\w+-)[0-9a-f]{2}"
    r"-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-[!-~]{0,400})?[ \t]*\Z"
)

#: The defined flags, "sampled" and "random trace id"; all others are sent on as 0.
_KNOWN_FLAGS = 0x03

TenantId = Annotated[
    str, matching(TENANT_PATTERN, "must be up to 64 lower-case letters, digits and inner hyphens")
]


class InvalidEnvelope(ValueError):
    """The message body is not a CloudEvent this system understands."""


def _bounded(value: str) -> str:
    if (size := len(value.encode())) > MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"takes {size} bytes, the limit is {MAX_ATTRIBUTE_BYTES}")
    return value


def _traceparent(value: object) -> object:
    """An invalid parent counts as missing: the work starts a new trace."""
    return value if isinstance(value, str) and is_traceparent(value) else None


_Attribute = Annotated[str, StringConstraints(min_length=1), AfterValidator(_bounded)]


class Envelope(BaseModel):
    """One CloudEvent; each attribute takes `MAX_ATTRIBUTE_BYTES` at most.

    Attributes:
        id: unique within ``source``; together they identify the event for de-duplication.
        source: URI-reference of the producer.
        type: reverse-DNS event type, for example ``qlp.sandbox.job``.
        subject: what the event is about, an intent id where there is one.
        time: when it happened.
        tenantid: extension attribute; the tenant that owns the data.
        traceparent: extension attribute; W3C trace context of the cause; None if it was invalid.
        data: the payload, validated by the consumer of ``type``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: _Attribute
    source: _Attribute
    type: _Attribute
    subject: _Attribute | None = None
    time: Annotated[AwareDatetime, BeforeValidator(timestamp)] | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    tenantid: TenantId
    traceparent: Annotated[str | None, BeforeValidator(_traceparent)] = None
    data: dict[str, Any] = Field(default_factory=dict)

    def encode(self) -> bytes:
        """The body of a Service Bus message, UTF-8 JSON.

        Raises:
            InvalidEnvelope: larger than ``MAX_ENVELOPE_BYTES``.
        """
        body = self.model_dump_json(exclude_none=True).encode()
        if len(body) > MAX_ENVELOPE_BYTES:
            raise InvalidEnvelope(
                f"the envelope takes {len(body)} bytes, the limit is {MAX_ENVELOPE_BYTES}"
            )
        return body

    @classmethod
    def decode(cls, body: bytes) -> Envelope:
        """Parse a message body.

        Raises:
            InvalidEnvelope: names the first offending attribute and what is wrong with it.
        """
        size = len(body)
        if size > MAX_ENVELOPE_BYTES:
            raise InvalidEnvelope(f"body: takes {size} bytes, the limit is {MAX_ENVELOPE_BYTES}")
        try:
            return cls.model_validate(read_event(body))
        except NoCloudEvent as error:
            raise InvalidEnvelope(str(error)) from None
        except ValidationError as error:
            raise InvalidEnvelope(describe(error)) from None


def event_key(source: str, event_id: str) -> str:
    """The identity of a CloudEvent as one text, unique to its pair of source and id.

    Normally a line with the source and a line with the id. If either contains a line break, a line
    with the length of the source, in characters, comes first, so that the text stays unambiguous.
    """
    key = f"{source}\n{event_id}"
    return key if key.count("\n") == 1 else f"{len(source)}\n{key}"


def is_traceparent(value: str | None) -> bool:
    """Whether ``value`` is a valid W3C ``traceparent``, of this version (00) or a later one."""
    return value is not None and re.match(TRACEPARENT_PATTERN, value) is not None


def child_of(parent: str | None) -> str:
    """A ``traceparent`` of version 00 for new work caused by ``parent``.

    It keeps the trace id and the known flags and gets a new span id; with a missing or invalid
    parent, it starts a new, sampled trace.
    """
    match = re.match(TRACEPARENT_PATTERN, parent or "")
    trace_id, flags = match.groups() if match is not None else (_non_zero_hex(16), "01")
    return f"00-{trace_id}-{_non_zero_hex(8)}-{int(flags, 16) & _KNOWN_FLAGS:02x}"


def _non_zero_hex(size: int) -> str:
    while not any(value := secrets.token_bytes(size)):  # all-zero ids are invalid
        continue
    return value.hex()


def rfc3339(moment: datetime) -> str:
    """``moment`` (timezone-aware) in RFC 3339 with microseconds."""
    return moment.isoformat(timespec="microseconds")
