"""Verifies the events of each lane: gapless, chained, and with the heads that seals say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.lanes import CHAIN_START, chain_digest, lane_of
from domain.operations.log_findings import Kind, LogFinding
from domain.sealing.reads import SealedHead, SealReads

_SQL = load_statements(Path(__file__).with_name("lane_integrity.sql"))

_PAGE = 2_000

#: Most events without any place that are named.
_MAX_NOWHERE = 1_000

_BELOW_ALL = -(2**63)


class _Placed(NamedTuple):
    """An event in its lane; whoever tampers with the table may leave out anything."""

    lane: int | None
    lane_position: int | None
    chain_digest: bytes | None
    event: StoredEvent

    def found(self, kind: Kind, detail: str, seal: int | None = None) -> LogFinding:
        """A finding about this event."""
        event = self.event
        where = (self.lane, self.lane_position, event.event_id, event.stream_id, event.version)
        return LogFinding(kind, detail, seal, *where)


@dataclass(slots=True)
class _Lane:
    """How far a lane has been verified.

    Attributes:
        heads: those that are sealed, in order; before `reached`, they have been passed.
        trusted: the position up to which nothing is counted.
        position, chain: of the last event; the chain is None where it is not known.
        proven: what the chain would be there, from the last sealed head on; None if not known.
        explained: something was found since the last sealed head.
        sealed, unsealed: how many events were verified, that are sealed or are not.
    """

    number: int
    heads: Sequence[SealedHead]
    trusted: int
    position: int
    chain: bytes | None
    proven: bytes | None
    reached: int = 0
    explained: bool = False
    sealed: int = 0
    unsealed: int = 0

    def findings(self, placed: _Placed) -> Iterator[LogFinding]:
        """What is wrong with the next event of the lane, and with the places before it."""
        place = placed.lane_position
        assert place is not None
        while self.reached < len(self.heads) and self.heads[self.reached].position < place:
            self.reached += 1
        head = self.heads[self.reached] if self.reached < len(self.heads) else None
        seal = head.seq if head is not None and place > 0 else None
        self.sealed += head is not None and place != self.trusted
        self.unsealed += head is None
        empty = range(max(self.position, 0) + 1, place)
        if empty:
            gone = f"places {empty[0]} to {empty[-1]} are" if empty[1:] else f"place {place - 1} is"
            self.explained = True
            yield placed._replace(lane_position=empty[0]).found(
                Kind.EVENT_REMOVED, f"before it, {gone} empty", seal
            )
        if (wrong := self._wrong(placed, place, bool(empty))) is not None:
            self.explained = True
            yield placed.found(*wrong, seal)
        if place <= self.position:
            return
        self._go_on(placed, place, bool(empty) or wrong is not None)
        if head is not None and head.position == place:
            stored = placed.chain_digest if place == self.trusted else self.proven
            if not self.explained and stored not in (None, head.chain_digest):
                first = self.heads[self.reached - 1].position + 1 if self.reached else 1
                places = f"places {max(first, self.trusted)} to {place}"
                detail = f"{places} are not what seal {head.seq} covers"
                yield placed.found(Kind.LANE_REWRITTEN, detail, seal)
            self.explained, self.proven = False, head.chain_digest

    def _go_on(self, placed: _Placed, place: int, found: bool) -> None:
        if found:
            self.proven = None
        elif self.proven is not None:
            as_stored = self.proven == self.chain
            self.proven = (
                placed.chain_digest
                if as_stored
                else self._chained(place, self.proven, placed.event.digest)
            )
        self.position, self.chain = place, placed.chain_digest

    def _wrong(self, placed: _Placed, place: int, after_gap: bool) -> tuple[Kind, str] | None:
        event, chained = placed.event, placed.chain_digest
        if place < 1:
            return Kind.OUT_OF_RANGE, f"place {place} of lane {self.number} does not exist"
        if place <= self.position:
            return Kind.EVENT_INSERTED, f"place {place} of lane {self.number} is taken twice"
        if None in event or chained is None:
            return Kind.EVENT_CHANGED, "something was taken out of it"
        if self.number != lane_of(event.stream_id):
            return Kind.EVENT_MOVED, f"it lies in lane {self.number}, but its stream does not"
        computed = event_digest(event)
        before = None if after_gap else self.chain
        if computed != event.digest:
            if before is not None and chained == self._chained(place, before, computed):
                return Kind.EVENT_CHANGED, "its digest was overwritten"
            return Kind.EVENT_CHANGED, "its content does not match its digest"
        if before is not None and chained != self._chained(place, before, event.digest):
            return Kind.CHAIN_BROKEN, f"the chain of lane {self.number} does not lead to it"
        return None

    def _chained(self, place: int, before: bytes, digest: bytes) -> bytes:
        return chain_digest(self.number, place, before, digest)

    def cut_off(self, read: int) -> LogFinding | None:
        """What is wrong with the lane's end, if a follower has read up to this position."""
        end = max(self.position, 0)
        seal, known = None, f"a follower has read place {read}"
        if self.heads and self.heads[-1].position > end:
            seal, known = self.heads[-1].seq, f"a seal covers place {self.heads[-1].position}"
        elif read <= end:
            return None
        detail = f"lane {self.number} ends at place {end}, and {known}"
        return LogFinding(Kind.EVENT_REMOVED, detail, seal, self.number, end + 1)


class LaneVerifier:
    """Verifies all lanes.

    Attributes:
        sealed, unsealed: how many events were verified, that are sealed or are not.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool, self._seals = pool, SealReads(pool)
        self._read: dict[int, int] = {}
        self.sealed = self.unsealed = 0

    async def findings(
        self, since: Sequence[SealedHead], to_seal: int, progress: Callable[[int], None]
    ) -> AsyncIterator[LogFinding]:
        """What is wrong with the lanes, in their order.

        Args:
            since: a head of each lane, up to which everything is trusted.
            to_seal: the last seal that is compared.
            progress: called with the number of events that were verified.
        """
        self._read = dict(await fetch(self._pool, _SQL["read"], {}))
        for row in await fetch(self._pool, _SQL["nowhere"], {"limit": _MAX_NOWHERE}):
            yield _placed(row).found(Kind.OUT_OF_RANGE, "it has no place in a lane")
        in_use = {lane for (lane,) in await fetch(self._pool, _SQL["in_use"], {})}
        for number in sorted(in_use | self._read.keys()):
            async for finding in self._lane(number, since[number], to_seal, progress):
                yield finding

    async def _lane(
        self, number: int, since: SealedHead, to_seal: int, progress: Callable[[int], None]
    ) -> AsyncIterator[LogFinding]:
        heads = await self._seals.heads_of_lane(number, since.position, to_seal)
        if since.position:  # is verified to be there, but not what is before it
            lane = _Lane(number, [since, *heads], since.position, since.position - 1, None, None)
        else:
            lane = _Lane(number, heads, 0, _BELOW_ALL, CHAIN_START, CHAIN_START)
        async for page in self._events(number, since.position or _BELOW_ALL):
            for placed in page:
                for finding in lane.findings(placed):
                    yield finding
            progress(self.sealed + self.unsealed + lane.sealed + lane.unsealed)
        if (end := lane.cut_off(self._read.get(number, 0))) is not None:
            yield end
        self.sealed, self.unsealed = self.sealed + lane.sealed, self.unsealed + lane.unsealed

    async def _events(self, lane: int, at: int) -> AsyncIterator[Sequence[_Placed]]:
        seen = 0
        while True:
            params = {"lane": lane, "from": at, "seen": seen, "limit": _PAGE}
            page = [_placed(row) for row in await fetch(self._pool, _SQL["placed"], params)]
            if page:
                yield page
            if len(page) < _PAGE:
                return
            # There may be more than one event at a place, if nothing keeps them unique any more.
            last = page[-1].lane_position
            assert last is not None
            seen = sum(each.lane_position == last for each in page) + (seen if last == at else 0)
            at = last


def _placed(row: tuple[object, ...]) -> _Placed:
    lane, position, chained, *event = row
    return _Placed(lane, position, chained, StoredEvent(*event))  # type: ignore[arg-type]
