"""The interface of projections that follow the log."""

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
    """An event as projections get it.

    Attributes:
        record: the event as stored in the log.
        event: the typed event.
        started_at: when the first event of its stream was recorded.
    """

    record: RecordedEvent
    event: IntentEvent | UnknownEvent
    started_at: datetime


class Projection(Protocol[Change]):
    """A read model as pure functions from events to changes, and from changes to writes.

    The runner passes every event of a stream once and in order. Events of different streams come
    in any order, so changes must give the same result in any order.
    """

    @property
    def name(self) -> str:
        """The projection's name; its marks are in the table ``<name>_streams``."""

    @property
    def version(self) -> int:
        """The code's version; increased when results change, so that tables must be rebuilt."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables it writes to, each with a primary key."""

    def fold(self, event: StreamEvent) -> Change | None:
        """What ``event`` changes; None for nothing.

        Raises:
            ValueError: the event cannot be applied; its stream is parked.
        """

    def writes(self, changes: Sequence[Change]) -> Sequence[InlineWrite]:
        """The statements that write ``changes``, to tables found by the search path."""
