"""What a projection that follows the log must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from domain.eventlog.models import InlineWrite, RecordedEvent
from domain.intents.events import IntentEvent, UnknownEvent

Change = TypeVar("Change")


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event as projections take it.

    Attributes:
        record: as it stands in the log.
        event: the same, typed.
        started_at: when the first event of its stream was recorded.
    """

    record: RecordedEvent
    event: IntentEvent | UnknownEvent
    started_at: datetime


class Projection(Protocol[Change]):
    """A read model as pure functions: events to changes, changes to writes.

    The runner gives every event of a stream exactly once and in order. Between streams there is
    no order, so changes must add up alike in any.
    """

    @property
    def name(self) -> str:
        """Also the prefix of the table ``<name>_streams``, which the runner keeps."""

    @property
    def version(self) -> int:
        """Grows when `fold` or `writes` give other results; live tables are rebuilt then."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables it writes to, each with a primary key."""

    def fold(self, event: StreamEvent) -> Change | None:
        """What ``event`` changes; None for nothing.

        Raises:
            ValueError: the event cannot be taken; its stream is parked.
        """

    def writes(self, changes: Sequence[Change]) -> Sequence[InlineWrite]:
        """The statements that make ``changes``, on tables found by the search path."""
