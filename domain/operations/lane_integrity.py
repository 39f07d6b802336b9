"""Verifies the chain of each lane: gapless places, and digests that follow from one another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.lanes import CHAIN_START, chain_digest, lane_of
from domain.eventlog.models import Checkpoint
from domain.operations.log_findings import Kind, LogFinding

_SQL = load_statements(Path(__file__).with_name("lane_integrity.sql"))

_PAGE = 10_000


class _Placed(NamedTuple):
    """An event in its lane."""

    lane: int
    lane_position: int
    event_id: UUID
    position: int
    stream_id: str
    version: int
    digest: bytes
    chain_digest: bytes


@dataclass(slots=True)
class _Chain:
    """How far a lane's chain has been verified."""

    lane: int
    position: int = 0
    digest: bytes = CHAIN_START

    def what_is_wrong(self, event: _Placed) -> tuple[Kind, str] | None:
        """What is wrong with the next event of the lane."""
        if event.lane_position != self.position + 1:
            first, last = self.position + 1, event.lane_position - 1
            gone = f"{first}" if first == last else f"{first} to {last}"
            return Kind.EVENT_REMOVED, f"place {gone} of lane {self.lane} is empty, before this one"
        if event.lane != lane_of(event.stream_id):
            return Kind.EVENT_MOVED, f"it lies in lane {event.lane}, but its stream does not"
        if event.chain_digest != chain_digest(*event[:2], self.digest, event.digest):
            return Kind.CHAIN_BROKEN, f"the chain of lane {self.lane} does not lead to it"
        return None


async def lane_findings(
    pool: AsyncConnectionPool, after: Checkpoint, explained: Collection[UUID]
) -> AsyncIterator[LogFinding]:
    """What is wrong with the lanes after a checkpoint, in the order of the lanes.

    Args:
        pool: reads the log.
        after: what lies before is trusted.
        explained: events that other findings name: nothing more is said of these.
    """
    trusted = await _trusted(pool, after)
    chain = _Chain(-1)
    async for event in _placed(pool, trusted):
        if event.lane != chain.lane:
            chain = trusted.get(event.lane, _Chain(event.lane))
        found = chain.what_is_wrong(event)
        if found is not None and event.event_id not in explained:
            kind, detail = found
            where = (event.event_id, event.position, event.stream_id, event.version)
            yield LogFinding(kind, detail, None, None, *where)
        chain.position, chain.digest = event.lane_position, event.chain_digest


async def _trusted(pool: AsyncConnectionPool, after: Checkpoint) -> dict[int, _Chain]:
    if after == Checkpoint.start():
        return {}
    rows = await fetch(pool, _SQL["trusted"], after.params())
    return {lane: _Chain(lane, position, digest) for lane, position, digest in rows}


async def _placed(pool: AsyncConnectionPool, trusted: dict[int, _Chain]) -> AsyncIterator[_Placed]:
    at = {"lane": -1, "lane_position": 0}
    starts = {
        "lanes": list(trusted),
        "positions": [chain.position for chain in trusted.values()],
    }
    while rows := await fetch(pool, _SQL["placed"], {**at, **starts, "limit": _PAGE}):
        for row in rows:
            yield _Placed(*row)
        at = {"lane": rows[-1][0], "lane_position": rows[-1][1]}
