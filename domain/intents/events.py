"""What happened to an intent.

Each event type carries a schema version. Fields marked `Personal` hold what people wrote or what
their programs printed; one codec (`domain.eventlog.codec`) turns events into rows and back, so
that such fields can be protected in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime
from pydantic_core import from_json, to_json

from domain.intents.content import RECORDED, IntentContent, Limits, Program
from domain.intents.upcasters import UPCASTERS, Upcasters, check, upcast
from domain.intents.values import (
    Author,
    FailureCause,
    ModelCall,
    Personal,
    PlannedStep,
    PlanSource,
    RunOutcome,
    Value,
)


class IntentEvent(Value):
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


class LanguageModelCalled(IntentEvent):
    """A language model was asked: what it took, and whether the answer was of use."""

    type: ClassVar[str] = "LanguageModelCalled"
    call: ModelCall


class PlanningPostponed(IntentEvent):
    """What was needed of a language model could not be had now; it is tried again later.

    Attributes:
        attempt: how often that has happened in a row.
        step: whose repair has to wait; None for the plan itself.
    """

    type: ClassVar[str] = "PlanningPostponed"
    attempt: int
    not_before: AwareDatetime
    cause: FailureCause
    step: str | None = None


class IntentPlanned(IntentEvent):
    """A program for it is known, or several that build on one another.

    Attributes:
        program: of a plan of one step; None where the submitted one is used.
        steps: of a plan of several, each after those it needs; the last one's result counts.
        reused_from: the solved intent whose plan this is.
        author: the model that wrote it, here or for the intent it is reused from.
        examples: solved intents that the model was shown.
        repairs: how often a program of it may be given back to be mended.
    """

    type: ClassVar[str] = "IntentPlanned"
    source: PlanSource
    program: Annotated[Program | None, Personal()] = None
    steps: tuple[PlannedStep, ...] = ()
    reused_from: UUID | None = None
    embedding_model: str | None = None
    explanation: Annotated[str | None, Personal()] = None
    author: Author | None = None
    examples: tuple[UUID, ...] = ()
    expected_artifacts: Annotated[tuple[str, ...], Personal()] = ()
    repairs: int = 0


class RepairRequested(IntentEvent):
    """A step's program failed and is to be mended by the model that wrote it."""

    type: ClassVar[str] = "RepairRequested"
    step: str
    run_id: UUID


class ProgramRepaired(IntentEvent):
    """A step has another program now."""

    type: ClassVar[str] = "ProgramRepaired"
    step: str
    program: Annotated[Program, Personal()]
    explanation: Annotated[str | None, Personal()] = None
    author: Author | None = None


class SandboxRunRequested(IntentEvent):
    """A sandbox run was asked for; ``not_before`` delays a retry.

    Attributes:
        attempt: counts the runs of the step.
        limits: all that the run is held to, as its tenant's were at the time; None in what was
            recorded before limits were, when the program's own held.
        step: of the plan; None where the plan has only one.
    """

    type: ClassVar[str] = "SandboxRunRequested"
    run_id: UUID
    attempt: int
    not_before: AwareDatetime | None = None
    limits: Limits | None = None
    step: str | None = None


class SandboxRunKillRequested(IntentEvent):
    """An operator wants a run to end now; how it ended is for the sandbox host to say."""

    type: ClassVar[str] = "SandboxRunKillRequested"
    run_id: UUID
    operator: str
    reason: Annotated[str | None, Personal()] = None


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
    """The intent came to nothing, and why; ``run_id`` is the run that it failed with."""

    type: ClassVar[str] = "IntentFailed"
    cause: FailureCause
    run_id: UUID | None = None


class IntentCancelled(IntentEvent):
    """The client took it back."""

    type: ClassVar[str] = "IntentCancelled"
    reason: Annotated[str | None, Personal()] = None


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event this version of the code does not know: kept as it is, never dropped."""

    type: str
    schema_version: int
    data: str
    at: datetime | None = None


EVENT_TYPES: dict[str, type[IntentEvent]] = {
    event.type: event
    for event in (
        IntentSubmitted,
        LanguageModelCalled,
        PlanningPostponed,
        IntentPlanned,
        RepairRequested,
        ProgramRepaired,
        SandboxRunRequested,
        SandboxRunKillRequested,
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
    type_: str,
    schema_version: int,
    data: str,
    registry: EventRegistry = REGISTRY,
    *,
    trusted: bool = True,
) -> IntentEvent | UnknownEvent:
    """The typed event of a record, brought to the current version of its type.

    `UnknownEvent` for a type or version from the future.

    Args:
        type_: of the event.
        schema_version: that ``data`` is in.
        data: a JSON object, as recorded.
        registry: the types that are known.
        trusted: it comes from our log, so what it holds was checked when it was accepted.

    Raises:
        pydantic.ValidationError: the data does not fit its own schema version.
    """
    model = registry.types.get(type_)
    if model is None or schema_version > model.schema_version:
        return UnknownEvent(type_, schema_version, data)
    if schema_version != model.schema_version:
        old = from_json(data)
        new = upcast(type_, schema_version, model.schema_version, old, registry.upcasters)
        data = to_json(new).decode()
    # What `model_validate_json` calls, without its own fifth of the time.
    event: IntentEvent = model.__pydantic_validator__.validate_json(
        data, strict=trusted, context=RECORDED
    )
    return event
