"""The interface of builders, and the data types of a rebuild."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

from psycopg import AsyncConnection

from domain.eventlog.heads import Heads

Phase = Literal["bulk", "follow"]


class RebuildFailed(Exception):
    """The rebuild failed; the live tables are unchanged."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a rebuild has come; saved in the same transaction as what it wrote.

    Attributes:
        phase: ``bulk``: streams are folded whole, some lanes at a time; ``follow``: the log is read
            in its order.
        lanes: in the phase ``bulk``, how many lanes are done.
        heads: where following begins, or how far it has come.
        events: number of events processed so far.
    """

    phase: Phase
    lanes: int
    heads: Heads
    events: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a rebuild.

    Attributes:
        stage: what it is doing.
        events: events processed so far, by this and by earlier, interrupted runs.
        total: number of events in the log when it began.
        resumed_from: events that earlier runs had processed.
    """

    stage: Literal["bulk", "index", "follow", "check", "swap", "done"]
    events: int
    total: int
    resumed_from: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A finished rebuild.

    Attributes:
        resumed_from: events that earlier, interrupted runs had processed.
        swap_tries: how often the exchange of the tables was tried.
        parked: streams that could not be processed to their end; intents among them keep their
            rows.
    """

    projection: str
    events: int
    resumed_from: int
    swap_tries: int
    parked: int = 0


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """What a rebuild would do; ``done``: events that an interrupted one has processed."""

    projection: str
    tables: tuple[str, ...]
    events: int
    done: int


OnProgress = Callable[[Progress], None]


class Builder(Protocol):
    """Builds the tables of one projection from the log.

    All methods are called in a transaction of ``connection`` with the copies first on its search
    path.
    """

    @property
    def name(self) -> str:
        """The projection's name."""

    @property
    def version(self) -> int:
        """The version of the projection's code."""

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables to be exchanged."""

    @property
    def first_phase(self) -> Phase:
        """The phase to begin with; with ``bulk``, indexes are created after that phase."""

    @property
    def page(self) -> int:
        """Events per page; in the phase ``bulk``, a lane with more is one page."""

    @property
    def follower(self) -> str | None:
        """The name under which it follows the log; None if it is written inline."""

    def begin(self, run: UUID) -> None:
        """Called first, with this run's name: what is left of an earlier one writes nothing."""

    async def advance(
        self, connection: AsyncConnection[Any], position: Position
    ) -> Position | None:
        """Process one page of events and return the new position; None at the current end.

        After the last lane of the phase ``bulk``, the new position is in the phase ``follow``.
        """

    async def catch_up(self, connection: AsyncConnection[Any], position: Position) -> Position:
        """Process everything that readers of the live tables may have seen."""

    async def aclose(self) -> None:
        """Release its resources."""

    async def check(self, connection: AsyncConnection[Any], position: Position) -> int:
        """The number of streams whose tables differ from the log at ``position``."""
