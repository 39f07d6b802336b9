"""What happened to an intent.

Each event type carries a schema version. Fields marked `Personal` hold what people wrote or what
their programs printed; one codec (`domain.eventlog.codec`) turns events into rows and back, so
that such fields can be protected in one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

import msgspec

from domain.contracts.strict_json import Time, read_as
from domain.intents.content import IntentContent, Limits, Program
from domain.intents.event_parts import (
    Author,
    FailureCause,
    ModelCall,
    Personal,
    PlannedStep,
    PlanSource,
    RunOutcome,
)
from domain.intents.struct import RECORDED, Value
from domain.intents.upcasters import UPCASTERS, Upcasters, check, upcast

#: A time with its offset, for both readers: pydantic and msgspec.
Moment = Annotated[Time, msgspec.Meta(tz=True)]


class IntentEvent(Value, frozen=True):
    """Base of all events of an intent; ``at`` is the time of the command that caused it."""

    type: ClassVar[str]
    schema_version: ClassVar[int] = 1

    at: Moment


class IntentSubmitted(IntentEvent, frozen=True):
    """An intent was accepted."""

    type: ClassVar[str] = "IntentSubmitted"
    intent_id: UUID
    tenant_id: str
    origin: Literal["http", "service_bus"]
    content: Annotated[IntentContent, Personal()]
    fingerprint: str


class LanguageModelCalled(IntentEvent, frozen=True):
    """A language model was called: what it used, and whether the answer was useful."""

    type: ClassVar[str] = "LanguageModelCalled"
    call: ModelCall


class PlanningPostponed(IntentEvent, frozen=True):
    """A language model was not available; it is asked again later.

    Attributes:
        attempt: how many times in a row this has happened.
        step: the step whose repair has to wait; None for the plan itself.
    """

    type: ClassVar[str] = "PlanningPostponed"
    attempt: int
    not_before: Moment
    cause: FailureCause
    step: str | None = None


class IntentPlanned(IntentEvent, frozen=True):
    """The intent has a program, or several that build on one another.

    Attributes:
        program: that of a plan with one step; None where the submitted one is used.
        steps: those of a plan with several, each after those it needs; the last one's result
            counts.
        reused_from: the solved intent whose plan this is.
        author: the model that wrote it, here or for the intent it is reused from.
        examples: solved intents that the model was shown.
        repairs: how many repairs its programs may have in all.
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


class RepairRequested(IntentEvent, frozen=True):
    """A step's program failed, and the model is to repair it."""

    type: ClassVar[str] = "RepairRequested"
    step: str
    run_id: UUID


class ProgramRepaired(IntentEvent, frozen=True):
    """A step has a new program."""

    type: ClassVar[str] = "ProgramRepaired"
    step: str
    program: Annotated[Program, Personal()]
    explanation: Annotated[str | None, Personal()] = None
    author: Author | None = None


class SandboxRunRequested(IntentEvent, frozen=True):
    """A sandbox run was asked for; ``not_before`` delays a retry.

    Attributes:
        attempt: number of the run among those of its step, from 1.
        limits: all limits of the run, by the tenant's settings at the time; None in events from
            before limits were recorded, when the program's own applied.
        step: its step; None where the plan has only one.
    """

    type: ClassVar[str] = "SandboxRunRequested"
    run_id: UUID
    attempt: int
    not_before: Moment | None = None
    limits: Limits | None = None
    step: str | None = None


class SandboxRunKillRequested(IntentEvent, frozen=True):
    """An operator wants a run to end now; the sandbox host reports how it ended."""

    type: ClassVar[str] = "SandboxRunKillRequested"
    run_id: UUID
    operator: str
    reason: Annotated[str | None, Personal()] = None


class SandboxRunFinished(IntentEvent, frozen=True):
    """The sandbox reported the end of a run."""

    type: ClassVar[str] = "SandboxRunFinished"
    run_id: UUID
    outcome: RunOutcome


class IntentSucceeded(IntentEvent, frozen=True):
    """The intent's program ran and exited with 0."""

    type: ClassVar[str] = "IntentSucceeded"
    run_id: UUID


class IntentFailed(IntentEvent, frozen=True):
    """The intent failed, and why; ``run_id`` is the run with which it did, if any."""

    type: ClassVar[str] = "IntentFailed"
    cause: FailureCause
    run_id: UUID | None = None


class IntentCancelled(IntentEvent, frozen=True):
    """The client cancelled it."""

    type: ClassVar[str] = "IntentCancelled"
    reason: Annotated[str | None, Personal()] = None


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a type that this release does not know: kept as it is, and ignored.

    A new type may only hold what earlier releases can do without. What changes the meaning of the
    stream is a new version of a known type: `NewerEvent`.
    """

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


#: The most values and keys in the data of an imported event: as many as in a model's whole answer.
MAX_EVENT_NODES = 8_000

#: A value in msgspec's messages: it may be personal.
_QUOTED = re.compile(r" '.*'", re.DOTALL)


class UnreadableEvent(ValueError):
    """Recorded data does not fit its own schema version; the message says where, and no value."""

    def __init__(self, error: Exception) -> None:
        message = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
        super().__init__(_QUOTED.sub("", message))


class NewerEvent(ValueError):
    """A known type in a schema version of a later release: its stream cannot be folded here."""

    def __init__(self, type_: str, schema_version: int, known: int) -> None:
        super().__init__(
            f"{type_} has schema version {schema_version}, of a later release; this one reads up "
            f"to {known}"
        )


#: What reading an event of any content can raise, besides msgspec's own errors: upcasters get data
#: that they were not written for, and JSON may be nested too deep to be read.
_UNFIT = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class EventRegistry:
    """The event types that the code knows, each at its current version, and the upcasters to it.

    Raises:
        domain.intents.upcasters.IncompleteUpcasters: a past version cannot be read.
    """

    types: Mapping[str, type[IntentEvent]]
    upcasters: Upcasters
    _readers: dict[tuple[str, int], Callable[[str], IntentEvent]] = field(init=False)

    def __post_init__(self) -> None:
        check({name: model.schema_version for name, model in self.types.items()}, self.upcasters)
        readers = {
            (name, model.schema_version): msgspec.json.Decoder(model).decode
            for name, model in self.types.items()
        }
        object.__setattr__(self, "_readers", readers)

    def revive(self, type_: str, schema_version: int, data: str) -> IntentEvent | UnknownEvent:
        """The typed event of a record of our log, brought to the current version of its type.

        `UnknownEvent` for a type from the future. Bounds are not checked again: what the log holds
        was checked before it was recorded.

        Args:
            type_: the event's type.
            schema_version: the version of ``data``.
            data: a JSON object, as recorded.

        Raises:
            NewerEvent: the type is known, the version is from the future.
            UnreadableEvent: the data does not fit its own schema version.
        """
        reader = self._readers.get((type_, schema_version))
        try:
            if reader is not None:
                return reader(data)
            model = self._known(type_, schema_version)
            if model is None:
                return UnknownEvent(type_, schema_version, data)
            return self._readers[type_, model.schema_version](
                self._current(model, schema_version, data)
            )
        except NewerEvent:
            raise
        except _UNFIT as error:
            raise UnreadableEvent(error) from None

    def revive_checked(
        self, type_: str, schema_version: int, data: str
    ) -> IntentEvent | UnknownEvent:
        """As `revive`, for a record from elsewhere: the bounds of every field are checked.

        Raises:
            NewerEvent: the type is known, the version is from the future.
            UnreadableEvent: an upcaster cannot handle the data.
            pydantic.ValidationError: the data does not fit its own schema version.
        """
        model = self._known(type_, schema_version)
        if model is None:
            return UnknownEvent(type_, schema_version, data)
        try:
            current = self._current(model, schema_version, data)
        except _UNFIT as error:
            raise UnreadableEvent(error) from None
        event: IntentEvent = read_as(
            model, current.encode(), max_nodes=MAX_EVENT_NODES, context=RECORDED
        )
        return event

    def reads(self, type_: str, schema_version: int) -> bool:
        """Whether this release knows the type, and the version of it."""
        model = self.types.get(type_)
        return model is not None and schema_version <= model.schema_version

    def _known(self, type_: str, schema_version: int) -> type[IntentEvent] | None:
        """The type of an event; None for a type from the future."""
        model = self.types.get(type_)
        if model is not None and schema_version > model.schema_version:
            raise NewerEvent(type_, schema_version, model.schema_version)
        return model

    def _current(self, model: type[IntentEvent], schema_version: int, data: str) -> str:
        """``data`` as it would be recorded today."""
        if schema_version == model.schema_version:
            return data
        old = msgspec.json.decode(data)
        new = upcast(model.type, schema_version, model.schema_version, old, self.upcasters)
        return msgspec.json.encode(new).decode()


REGISTRY = EventRegistry(EVENT_TYPES, UPCASTERS)
revive = REGISTRY.revive

#: What an event raises that this release cannot handle; any other error is not the event's fault.
POISON = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
