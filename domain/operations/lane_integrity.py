"""Verifies the chain of each lane: gapless places, and digests that follow from one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.lanes import CHAIN_START, LANES, chain_digest, lane_of
from domain.operations.log_findings import Kind, LogFinding

_SQL = load_statements(Path(__file__).with_name("lane_integrity.sql"))

_PAGE = 10_000

#: Most events without any place that are named.
_MAX_NOWHERE = 1_000


class _Placed(NamedTuple):
    """An event in its lane; whoever tampers with the table may leave out anything."""

    lane: int | None
    lane_position: int | None
    event_id: UUID
    position: int
    stream_id: str
    version: int
    digest: bytes | None
    chain_digest: bytes | None

    def found(self, kind: Kind, detail: str) -> LogFinding:
        """A finding about this event."""
        where = (self.event_id, self.position, self.stream_id, self.version)
        return LogFinding(kind, detail, None, None, *where)


@dataclass(slots=True)
class _Chain:
    """How far a lane's chain has been verified."""

    lane: int
    position: int = 0
    digest: bytes = CHAIN_START

    def empty_before(self, lane_position: int) -> range:
        """The places of the lane before this one that hold nothing."""
        return range(self.position + 1, lane_position)

    def what_is_wrong(self, event: _Placed) -> tuple[Kind, str] | None:
        """What is wrong with the next event of the lane, apart from empty places before it."""
        lane, position = self.lane, event.lane_position
        if position is None or not 0 <= lane < LANES or position < 1:
            return Kind.OUT_OF_RANGE, f"place {position} of lane {lane} does not exist"
        if position <= self.position:
            return Kind.EVENT_INSERTED, f"place {position} of lane {lane} is taken twice"
        if lane != lane_of(event.stream_id):
            return Kind.EVENT_MOVED, f"it lies in lane {lane}, but its stream does not"
        if event.digest is None or event.chain_digest is None:
            return Kind.CHAIN_BROKEN, "it has no digest"
        if self.empty_before(position):
            return None  # that is said instead
        if event.chain_digest != chain_digest(lane, position, self.digest, event.digest):
            return Kind.CHAIN_BROKEN, f"the chain of lane {lane} does not lead to it"
        return None


async def lane_findings(
    pool: AsyncConnectionPool, explained: Collection[UUID], gone: Counter[int]
) -> AsyncIterator[LogFinding]:
    """What is wrong with the lanes, in their order.

    Args:
        pool: reads the log.
        explained: events that other findings name: nothing more is said of these themselves.
        gone: how many events of each lane other findings miss; so many empty places are explained.
    """
    chain = _Chain(-(2**31))
    async for event in _placed(pool):
        if event.lane is None or event.lane_position is None:
            if event.event_id not in explained:
                yield event.found(Kind.OUT_OF_RANGE, "it has no place in a lane")
            continue
        if event.lane != chain.lane:
            chain = _Chain(event.lane)
        found = chain.what_is_wrong(event)
        if found is not None and event.event_id not in explained:
            yield event.found(*found)
        empty = chain.empty_before(event.lane_position) if 0 <= event.lane < LANES else range(0)
        if _count(empty) > gone[event.lane]:
            places = f"{empty[0]}" if _count(empty) == 1 else f"{empty[0]} to {empty[-1]}"
            detail = f"before it, place {places} of lane {event.lane} is empty"
            yield event.found(Kind.EVENT_REMOVED, detail)
        gone[event.lane] -= min(gone[event.lane], _count(empty))
        if event.lane_position > chain.position:
            chain.position, chain.digest = event.lane_position, event.chain_digest or b""


def _count(places: range) -> int:
    """How many places; ``len`` stops at 2**63."""
    return max(0, places.stop - places.start)


async def _placed(pool: AsyncConnectionPool) -> AsyncIterator[_Placed]:
    for row in await fetch(pool, _SQL["nowhere"], {"limit": _MAX_NOWHERE}):
        yield _Placed(*row)
    at, seen = (-(2**31), -(2**63)), 0
    while True:
        params = {"lane": at[0], "lane_position": at[1], "seen": seen, "limit": _PAGE}
        rows = await fetch(pool, _SQL["placed"], params)
        for row in rows:
            yield _Placed(*row)
        if len(rows) < _PAGE:
            return
        # There may be more than one event at a place, if nothing keeps them unique any more.
        last = rows[-1][:2]
        seen = sum(row[:2] == last for row in rows) + (seen if last == at else 0)
        at = last
