"""Verifies that the log is still what its seals say."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from psycopg_pool import AsyncConnectionPool

from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.lanes import lane_of
from domain.eventlog.log import EventLog
from domain.eventlog.models import Checkpoint
from domain.eventlog.seals import GENESIS, Head, Seal, SealedEvent, SealReads, seal_digest
from domain.operations.lane_integrity import lane_findings
from domain.operations.log_findings import (
    DIGEST_MISMATCH,
    Kind,
    LogFinding,
    compare,
    of_event,
    of_seal,
)

#: Most findings that are kept; more are only counted.
MAX_FINDINGS = 1000

_SEALS_PAGE = 20


@dataclass(slots=True)
class Verification:
    """What was verified, and what was found.

    Attributes:
        seals, events: how many were verified.
        unsealed: events after the last seal; only their own digests were verified.
        heads: exported heads that were compared.
        suppressed: findings beyond `MAX_FINDINGS`.
        head: the last seal's; kept elsewhere, it proves the log up to there.
        high: the last position that had been given out when the verification began.
        high_positions: findings on events beyond ``high``, unless that position is given out by
            the end of the verification.
    """

    seals: int = 0
    events: int = 0
    unsealed: int = 0
    heads: int = 0
    suppressed: int = 0
    findings: list[LogFinding] = field(default_factory=list)
    head: Head | None = field(default=None, compare=False)
    high: int = field(default=0, compare=False, repr=False)
    high_positions: list[LogFinding] = field(default_factory=list, compare=False, repr=False)

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def note_position(self, event: StoredEvent | SealedEvent, seal: Seal | None) -> None:
        """Note an event whose position may never have been given out."""
        if not 1 <= event.position <= self.high and len(self.high_positions) < MAX_FINDINGS:
            detail = "its position was never given out"
            self.high_positions.append(of_event(Kind.OUT_OF_RANGE, detail, seal, event))

    def add(self, finding: LogFinding) -> None:
        """Keep a finding, or only count it."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.suppressed += 1


#: Called with the number of events verified so far, and of all sealed events.
Progress = Callable[[int, int], None]


class LogVerifier:
    """Recomputes everything from the stored columns; trusts nothing that the database computes."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._log = EventLog(pool)
        self._seals = SealReads(pool)

    async def verify(
        self,
        from_seal: int = 1,
        heads: Sequence[Head] = (),
        progress: Progress = lambda _done, _total: None,
    ) -> Verification:
        """Verify the seals from ``from_seal`` on, their events, and the events after the last seal.

        Events may be appended and sealed meanwhile.

        Args:
            from_seal: everything before this seal is trusted.
            heads: exported earlier; only they can show that the whole log was rewritten.
            progress: see `Progress`.
        """
        result = Verification()
        await self._log.adopt_if_moved()
        sealed_to, to = await self._seals.sealed_to(), await self._seals.end()
        given_out = await self._seals.bounds()
        result.high = given_out.position
        total = await self._seals.sealed_events(from_seal - 1)
        previous = await self._before(from_seal, result)
        end, expected = Checkpoint.start(), from_seal
        if previous is not None:
            end = previous.end
        async for seal in self._after(from_seal - 1):
            if seal.seq != expected:
                await self._gap(expected, seal, end, result)
                end = Checkpoint(seal.start.transaction_id, seal.start.position - 1)
            elif seal.previous_digest != (previous.digest if previous else GENESIS):
                result.add(of_seal(seal, "it does not continue the seal before it"))
            await self._verify_seal(seal, end, result)
            previous, end, expected = seal, seal.end, seal.seq + 1
            progress(result.events, total)
        if sealed_to > end:
            gone = f"the log was once sealed up to position {sealed_to.position}"
            result.add(LogFinding(Kind.SEAL_REMOVED, gone, expected))
        result.unsealed += await self._verify_unsealed(end, max(end, to), result)
        await self._verify_bounds(result)
        await self._verify_heads(heads, result)
        await self._tell_moved_from_removed(result)
        await self._verify_versions(result)
        await self._verify_lanes(result)
        result.head = next(iter(await self._seals.heads(1)), None)
        return result

    async def _before(self, from_seal: int, result: Verification) -> Seal | None:
        if from_seal <= 1:
            return None
        found = await self._seals.after(from_seal - 2, 1)
        if found and found[0].seq == from_seal - 1:
            return found[0]
        result.add(LogFinding(Kind.SEAL_REMOVED, "the seal is missing", from_seal - 1))
        return None

    async def _after(self, seq: int) -> AsyncIterator[Seal]:
        while page := await self._seals.after(seq, _SEALS_PAGE):
            for seal in page:
                yield seal
            seq = page[-1].seq

    async def _gap(self, missing: int, seal: Seal, end: Checkpoint, result: Verification) -> None:
        for seq in range(missing, min(seal.seq, missing + MAX_FINDINGS)):
            result.add(LogFinding(Kind.SEAL_REMOVED, "the seal is missing", seq))
        before = Checkpoint(seal.start.transaction_id, seal.start.position - 1)
        result.unsealed += await self._verify_unsealed(end, before, result)

    async def _verify_seal(self, seal: Seal, after: Checkpoint, result: Verification) -> None:
        computed = seal_digest(seal.seq, seal.previous_digest, seal.sealed_at, seal.events)
        if computed != seal.digest:
            result.add(of_seal(seal, "its content does not match its digest"))
        elif seal.events and (seal.start.position, seal.end.position) != (
            seal.events[0].position,
            seal.events[-1].position,
        ):  # not covered by its digest, but the next seal begins after them
            result.add(of_seal(seal, "its first or last position is not that of its events"))
        found = [event async for event in self._seals.stored(after, seal.end)]
        for finding in compare(seal, found):
            result.add(finding)
        for event in seal.events:
            result.note_position(event, seal)
        result.seals += 1
        result.events += len(seal.events)

    async def _verify_unsealed(
        self, after: Checkpoint, to: Checkpoint, result: Verification
    ) -> int:
        count = 0
        async for event in self._seals.stored(after, to):
            count += 1
            result.note_position(event, None)
            if event_digest(event) != event.digest:
                result.add(of_event(Kind.EVENT_CHANGED, DIGEST_MISMATCH, None, event))
        return count

    async def _verify_bounds(self, result: Verification) -> None:
        """Find events with impossible positions or transactions: followers may never read them."""
        last = (await self._seals.bounds()).position
        for finding in result.high_positions:
            if finding.position is None or not 1 <= finding.position <= last:
                result.add(finding)
        for event in await self._seals.strays(MAX_FINDINGS):
            detail = "its transaction has not begun: followers never read it, its stream does"
            result.add(of_event(Kind.OUT_OF_RANGE, detail, None, event))
            if event_digest(event) != event.digest:
                result.add(of_event(Kind.EVENT_CHANGED, DIGEST_MISMATCH, None, event))

    async def _verify_lanes(self, result: Verification) -> None:
        """Find what the chains of the lanes show and other findings do not explain."""
        named = {finding.event_id for finding in result.findings if finding.event_id is not None}
        gone = Counter(
            lane_of(finding.stream_id)
            for finding in result.findings
            if finding.kind is Kind.EVENT_REMOVED and finding.stream_id is not None
        )
        async for finding in lane_findings(self._pool, named, gone):
            result.add(finding)

    async def _verify_versions(self, result: Verification) -> None:
        """Find missing versions, except those that another finding explains."""
        named = {(finding.stream_id, finding.version) for finding in result.findings}
        events = {finding.event_id for finding in result.findings}
        async for gap in self._seals.gaps():
            found = await self._seals.event_at(gap.stream_id, gap.version)
            if found is None or found[0] in events:
                continue
            if gap.version < 1:
                detail = "versions begin with 1"
                kind = Kind.OUT_OF_RANGE
            else:
                kind, first, last = Kind.VERSIONS_MISSING, gap.before + 1, gap.version - 1
                if last - first < MAX_FINDINGS and all(
                    (gap.stream_id, version) in named for version in range(first, last + 1)
                ):
                    continue
                detail = f"versions {first} to {last} of the stream are not in the log"
            where = (*found, gap.stream_id, gap.version)
            result.add(LogFinding(kind, detail, None, None, *where))

    async def _verify_heads(self, heads: Sequence[Head], result: Verification) -> None:
        found = await self._seals.heads_of([head.seq for head in heads])
        for head in heads:
            result.heads += 1
            if head.seq not in found:
                result.add(
                    LogFinding(
                        Kind.SEAL_REMOVED, "it is missing, and an exported head names it", head.seq
                    )
                )
            elif found[head.seq].digest != head.digest:
                detail = f"the exported digest is {head.digest}, now it is {found[head.seq].digest}"
                result.add(LogFinding(Kind.HEAD_DIFFERS, detail, head.seq))

    async def _tell_moved_from_removed(self, result: Verification) -> None:
        """Events that are missing where they were sealed, but are elsewhere, were moved there."""
        missing = [f.event_id for f in result.findings if f.kind is Kind.EVENT_REMOVED]
        moved = await self._seals.positions_of([event_id for event_id in missing if event_id])
        result.findings = [
            replace(f, kind=Kind.EVENT_MOVED, detail=f"it is now at position {moved[f.event_id]}")
            if f.kind is Kind.EVENT_REMOVED and f.event_id in moved
            else f
            for f in result.findings
            if not (f.kind is Kind.EVENT_INSERTED and f.event_id in moved)
        ]
