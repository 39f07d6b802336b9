"""What happened to an intent.

Each event type carries a schema version. Fields marked `Personal` hold what people wrote or what
their programs printed; one codec (`domain.eventlog.codec`) turns events into rows and back, so
that such fields can be protected in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from domain.intents.content import RECORDED, IntentContent, Program
from domain.intents.upcasters import UPCASTERS, Upcasters, check, upcast

PlanSource = Literal["submitted", "reused", "generated", "repaired"]


class Personal:
    """Marks a field as personal content of the tenant's people."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RunOutcome(_Value):
    """How one sandbox run ended, as the host decided it.

    Attributes:
        verdict: the host's word for it; ``succeeded`` is the only good one.
        retryable: the host failed, not the program: another try may help.
        stdout, stderr: what the program printed, cut at its limit.
        usage: measured use, units in the names (``wall_ms``, ``peak_memory_bytes``, …).
    """

    verdict: str
    retryable: bool = False
    exit_code: int | None = None
    signal: int | None = None
    stdout: Annotated[str, Personal()] = ""
    stderr: Annotated[str, Personal()] = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    usage: dict[str, float | int | None] = Field(default_factory=dict)
    runtime: str = ""
    image: str | None = None
    error: str | None = None


class FailureCause(_Value):
    """Why an intent failed.

    Attributes:
        code: stable, for programs: ``planner_not_configured``, ``program_exited``, …
        message: for people: what happened and what would help.
    """

    code: str
    message: str


class IntentEvent(_Value):
    """Base of all events of an intent; ``at`` is when it happened, by the decider's caller."""

    type: ClassVar[str]
    schema_version: ClassVar[int] = 1

    at: AwareDatetime


class IntentSubmitted(IntentEvent):
    """An intent was accepted."""

    type: ClassVar[str] = "IntentSubmitted"
    intent_id: UUID
    tenant_id: str
    origin: Literal["http", "service_bus"]
    content: Annotated[IntentContent, Personal()]
    fingerprint: str


class IntentPlanned(IntentEvent):
    """A program for it is known. ``program`` is None where the submitted one is used."""

    type: ClassVar[str] = "IntentPlanned"
    source: PlanSource
    program: Annotated[Program | None, Personal()] = None
    reused_from: UUID | None = None
    embedding_model: str | None = None


class SandboxRunRequested(IntentEvent):
    """A sandbox run was asked for; ``not_before`` delays a retry."""

    type: ClassVar[str] = "SandboxRunRequested"
    run_id: UUID
    attempt: int
    not_before: AwareDatetime | None = None


class SandboxRunFinished(IntentEvent):
    """The sandbox reported the end of a run."""

    type: ClassVar[str] = "SandboxRunFinished"
    run_id: UUID
    outcome: RunOutcome


class IntentSucceeded(IntentEvent):
    """The intent's program ran and exited with 0."""

    type: ClassVar[str] = "IntentSucceeded"
    run_id: UUID


class IntentFailed(IntentEvent):
    """The intent came to nothing, and why."""

    type: ClassVar[str] = "IntentFailed"
    cause: FailureCause


class IntentCancelled(IntentEvent):
    """The client took it back."""

    type: ClassVar[str] = "IntentCancelled"
    reason: Annotated[str | None, Personal()] = None


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event this version of the code does not know: kept as it is, never dropped."""

    type: str
    schema_version: int
    data: dict[str, Any]
    at: datetime | None = None


EVENT_TYPES: dict[str, type[IntentEvent]] = {
    event.type: event
    for event in (
        IntentSubmitted,
        IntentPlanned,
        SandboxRunRequested,
        SandboxRunFinished,
        IntentSucceeded,
        IntentFailed,
        IntentCancelled,
    )
}


@dataclass(frozen=True, slots=True)
class EventRegistry:
    """The event types that the code knows, each at its current version, and the ways there.

    Raises:
        domain.intents.upcasters.IncompleteUpcasters: a past version cannot be read.
    """

    types: Mapping[str, type[IntentEvent]]
    upcasters: Upcasters

    def __post_init__(self) -> None:
        check({name: model.schema_version for name, model in self.types.items()}, self.upcasters)


REGISTRY = EventRegistry(EVENT_TYPES, UPCASTERS)


def revive(
    type_: str, schema_version: int, data: dict[str, Any], registry: EventRegistry = REGISTRY
) -> IntentEvent | UnknownEvent:
    """The typed event of a record, brought to the current version of its type.

    `UnknownEvent` for a type or version from the future.

    Raises:
        pydantic.ValidationError: the data does not fit its own schema version.
    """
    model = registry.types.get(type_)
    if model is None or schema_version > model.schema_version:
        return UnknownEvent(type_, schema_version, data)
    if schema_version != model.schema_version:
        data = upcast(type_, schema_version, model.schema_version, data, registry.upcasters)
    return model.model_validate(data, context=RECORDED)
