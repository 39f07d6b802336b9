"""CloudEvents 1.0 envelopes, JSON in the message body.

Everything a consumer needs is in the body: in batch triggers the Functions host drops empty
entries of the per-message metadata arrays and shifts their indexes (Azure/Azure-Functions#2084),
so nothing outside the body may be trusted.

Source: CloudEvents 1.0.2, https://github.com/cloudevents/spec (structured content mode), and its
*Distributed Tracing* extension for ``traceparent``, which makes one trace from a client's request
to the sandbox's result (https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

#: Service Bus Standard refuses messages over 256 KB; headers need some of it.
MAX_ENVELOPE_BYTES = 240 * 1024

#: Lower-case letters, digits and inner hyphens, as in DNS labels.
TENANT_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z"

#: W3C Trace Context, section "Versioning of traceparent": in versions after 00 more may follow
#: behind another hyphen, ff is none, and blanks around it do not count.
TRACEPARENT_PATTERN = (
    r"^[ \t]*(?!ff)(?!00-\w+-\w+-\w+-)[0-9a-f]{2}"
    r"-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-[!-~]{0,400})?[ \t]*\Z"
)

#: The flags that have a meaning, "sampled" and "random trace id"; all others are sent on as 0.
_KNOWN_FLAGS = 0x03

TenantId = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
TraceParent = Annotated[str, StringConstraints(pattern=TRACEPARENT_PATTERN)]


class InvalidEnvelope(ValueError):
    """The message body is not a CloudEvent this system understands."""


class Envelope(BaseModel):
    """One CloudEvent.

    Attributes:
        id: unique within ``source``; together they identify the event for de-duplication.
        source: URI-reference of the producer.
        type: reverse-DNS event type, for example ``qlp.sandbox.job``.
        subject: what the event is about, an intent id where there is one.
        time: when it happened.
        tenantid: extension attribute; the tenant that owns the data.
        traceparent: extension attribute; W3C trace context of the cause.
        data: the payload, validated by whoever consumes ``type``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", regex_engine="python-re")

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    type: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    subject: Annotated[str, StringConstraints(max_length=200)] | None = None
    time: AwareDatetime | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    tenantid: TenantId
    traceparent: TraceParent | None = None
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
    def decode(cls, body: bytes | str) -> Envelope:
        """Parse a message body.

        Raises:
            InvalidEnvelope: names the first offending field and what is wrong with it.
        """
        size = len(body)
        if size > MAX_ENVELOPE_BYTES:
            raise InvalidEnvelope(f"the body takes {size} bytes, the limit is {MAX_ENVELOPE_BYTES}")
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise InvalidEnvelope(describe(error)) from None


def describe(error: ValidationError) -> str:
    """The first problem of a pydantic error as ``field: what is wrong``, without the input."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "body"
    return f"{field}: {first['msg']}"


def is_traceparent(value: str | None) -> bool:
    """Whether ``value`` is a valid W3C ``traceparent``, of this version (00) or a later one."""
    return value is not None and re.match(TRACEPARENT_PATTERN, value) is not None


def child_of(parent: str | None) -> str:
    """A ``traceparent``, of version 00, for new work caused by ``parent``.

    The trace id and the known flags are kept and the span id is new; a missing or invalid parent
    starts a new, sampled trace.
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
