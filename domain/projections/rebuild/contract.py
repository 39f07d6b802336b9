"""What a rebuild is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from psycopg import AsyncConnection

from domain.eventlog.models import Checkpoint

Phase = Literal["bulk", "follow"]


class RebuildFailed(Exception):
    """The rebuild did not come to its end; what is live stays as it is."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a rebuild has come; saved in the transaction of what it wrote.

    Attributes:
        phase: ``bulk``: the log is read stream by stream; ``follow``: in its own order.
        after_stream: in bulk: the last stream that is done.
        checkpoint: where following begins, or has come to.
        events: taken so far.
    """

    phase: Phase
    after_stream: str
    checkpoint: Checkpoint
    events: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life of a rebuild.

    Attributes:
        stage: what it is doing.
        events: taken so far, by this and by earlier, interrupted runs.
        total: events there were when it began.
        resumed_from: events that earlier runs had taken.
    """

    stage: Literal["bulk", "index", "follow", "check", "swap", "done"]
    events: int
    total: int
    resumed_from: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A finished rebuild.

    Attributes:
        resumed_from: events that earlier, interrupted runs had taken.
        parked: streams that could not be taken to their end; of intents the rows were kept.
    """

    projection: str
    events: int
    resumed_from: int
    swap_tries: int
    parked: int = 0


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """What a rebuild would do; ``done``: events that an interrupted one has taken already."""

    projection: str
    tables: tuple[str, ...]
    events: int
    done: int


OnProgress = Callable[[Progress], None]


class Builder(Protocol):
    """Builds the tables of one projection from the log.

    All methods are called in a transaction of ``connection`` whose search path leads to the copies
    first.
    """

    @property
    def name(self) -> str:
        """Of the projection."""

    @property
    def version(self) -> int:
        """Of its code."""

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables that are to be exchanged."""

    @property
    def first_phase(self) -> Phase:
        """``bulk`` tables get their indexes after that phase, others at once."""

    @property
    def page(self) -> int:
        """Events per page."""

    @property
    def lease(self) -> str | None:
        """The checkpoint that its runner saves; None for a projection written inline."""

    async def advance(
        self, connection: AsyncConnection[Any], position: Position
    ) -> Position | None:
        """Take one page of events; None: there are no more for now.

        A page of the last stream is followed by the first of the phase ``follow``.
        """

    async def catch_up(self, connection: AsyncConnection[Any], position: Position) -> Position:
        """Take everything that readers of the live tables may have seen."""

    async def aclose(self) -> None:
        """Give up what it holds."""

    async def check(self, connection: AsyncConnection[Any], position: Position) -> int:
        """The number of streams that are not where the log is at ``position``."""
