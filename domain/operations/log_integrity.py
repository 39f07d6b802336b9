"""Verifies that the log still is what its seals say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from psycopg_pool import AsyncConnectionPool

from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.log import EventLog
from domain.eventlog.models import Checkpoint
from domain.eventlog.seals import GENESIS, Head, Seal, SealedEvent, SealReads, seal_digest
from domain.operations.log_findings import UNFIT, Finding, Kind, compare, of_event, of_seal

#: Findings that are kept one by one; more are only counted.
MAX_FINDINGS = 1000

_SEALS_PAGE = 20


@dataclass(slots=True)
class Verification:
    """What was looked at and found.

    Attributes:
        seals, events: verified against each other.
        unsealed: events behind the last seal; only their own digests were verified.
        heads: exported heads that were compared.
        suppressed: findings beyond `MAX_FINDINGS`.
        head: of the last seal: whoever keeps it elsewhere can prove the log up to it.
        high: the last position that had been given out when this began.
        high_positions: what has to be said of events beyond it, if it has not moved on since.
    """

    seals: int = 0
    events: int = 0
    unsealed: int = 0
    heads: int = 0
    suppressed: int = 0
    findings: list[Finding] = field(default_factory=list)
    head: Head | None = field(default=None, compare=False)
    high: int = field(default=0, compare=False, repr=False)
    high_positions: list[Finding] = field(default_factory=list, compare=False, repr=False)

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def see(self, event: StoredEvent | SealedEvent, seal: Seal | None) -> None:
        """Note an event's position if it may be one that was never given out."""
        if not 1 <= event.position <= self.high and len(self.high_positions) < MAX_FINDINGS:
            detail = "no such position was given out"
            self.high_positions.append(of_event(Kind.OUT_OF_RANGE, detail, seal, event))

    def add(self, finding: Finding) -> None:
        """Keep a finding, or count it."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.suppressed += 1


#: Called with the number of events verified so far and of all that are sealed.
Progress = Callable[[int, int], None]


class LogVerifier:
    """Recomputes everything from the stored columns; trusts nothing that the database computes."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._log = EventLog(pool)
        self._seals = SealReads(pool)

    async def verify(
        self,
        from_seal: int = 1,
        heads: Sequence[Head] = (),
        progress: Progress = lambda _done, _total: None,
    ) -> Verification:
        """Verify seals from number ``from_seal`` on, their events, and the events behind them.

        Appends and new seals meanwhile do not disturb it.

        Args:
            from_seal: what lies before it is taken on trust.
            heads: exported earlier; only they can show that everything was rewritten.
            progress: see `Progress`.
        """
        result = Verification()
        await self._log.settle()
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
                result.add(of_seal(seal, "it does not follow from the seal before it"))
            await self._verify_seal(seal, end, result)
            previous, end, expected = seal, seal.end, seal.seq + 1
            progress(result.events, total)
        if sealed_to > end:
            gone = f"the log was sealed up to position {sealed_to.position} once"
            result.add(Finding(Kind.SEAL_REMOVED, gone, expected))
        result.unsealed += await self._verify_unsealed(end, max(end, to), result)
        await self._verify_bounds(result)
        await self._verify_heads(heads, result)
        await self._tell_moved_from_removed(result)
        await self._verify_versions(result)
        result.head = next(iter(await self._seals.heads(1)), None)
        return result

    async def _before(self, from_seal: int, result: Verification) -> Seal | None:
        if from_seal <= 1:
            return None
        found = await self._seals.after(from_seal - 2, 1)
        if found and found[0].seq == from_seal - 1:
            return found[0]
        result.add(Finding(Kind.SEAL_REMOVED, "the seal is missing", from_seal - 1))
        return None

    async def _after(self, seq: int) -> AsyncIterator[Seal]:
        while page := await self._seals.after(seq, _SEALS_PAGE):
            for seal in page:
                yield seal
            seq = page[-1].seq

    async def _gap(self, missing: int, seal: Seal, end: Checkpoint, result: Verification) -> None:
        for seq in range(missing, min(seal.seq, missing + MAX_FINDINGS)):
            result.add(Finding(Kind.SEAL_REMOVED, "the seal is missing", seq))
        before = Checkpoint(seal.start.transaction_id, seal.start.position - 1)
        result.unsealed += await self._verify_unsealed(end, before, result)

    async def _verify_seal(self, seal: Seal, after: Checkpoint, result: Verification) -> None:
        computed = seal_digest(seal.seq, seal.previous_digest, seal.sealed_at, seal.events)
        if computed != seal.digest:
            result.add(of_seal(seal, "its digest does not fit what it says"))
        elif seal.events and (seal.start.position, seal.end.position) != (
            seal.events[0].position,
            seal.events[-1].position,
        ):  # which its digest does not hold, and the next seal begins behind
            result.add(of_seal(seal, "it begins or ends at other positions than its events"))
        found = [event async for event in self._seals.stored(after, seal.end)]
        for finding in compare(seal, found):
            result.add(finding)
        for event in seal.events:
            result.see(event, seal)
        result.seals += 1
        result.events += len(seal.events)

    async def _verify_unsealed(
        self, after: Checkpoint, to: Checkpoint, result: Verification
    ) -> int:
        count = 0
        async for event in self._seals.stored(after, to):
            count += 1
            result.see(event, None)
            if event_digest(event) != event.digest:
                result.add(of_event(Kind.EVENT_CHANGED, UNFIT, None, event))
        return count

    async def _verify_bounds(self, result: Verification) -> None:
        """Find events where none can be, whom no follower meets, or only by accident."""
        last = (await self._seals.bounds()).position
        for finding in result.high_positions:
            if finding.position is None or not 1 <= finding.position <= last:
                result.add(finding)
        for event in await self._seals.strays(MAX_FINDINGS):
            detail = "no such transaction has begun: it is read in its stream, and never followed"
            result.add(of_event(Kind.OUT_OF_RANGE, detail, None, event))
            if event_digest(event) != event.digest:
                result.add(of_event(Kind.EVENT_CHANGED, UNFIT, None, event))

    async def _verify_versions(self, result: Verification) -> None:
        """Find versions that are missing; those that another finding explains are left out."""
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
            result.add(Finding(kind, detail, None, None, *where))

    async def _verify_heads(self, heads: Sequence[Head], result: Verification) -> None:
        found = await self._seals.heads_of([head.seq for head in heads])
        for head in heads:
            result.heads += 1
            if head.seq not in found:
                result.add(Finding(Kind.SEAL_REMOVED, "an exported head names it", head.seq))
            elif found[head.seq].digest != head.digest:
                detail = f"exported was {head.digest}, now it is {found[head.seq].digest}"
                result.add(Finding(Kind.HEAD_DIFFERS, detail, head.seq))

    async def _tell_moved_from_removed(self, result: Verification) -> None:
        """An event that is missing where it was sealed, and lies elsewhere, was moved there."""
        missing = [f.event_id for f in result.findings if f.kind is Kind.EVENT_REMOVED]
        moved = await self._seals.positions_of([event_id for event_id in missing if event_id])
        result.findings = [
            replace(f, kind=Kind.EVENT_MOVED, detail=f"it lies at position {moved[f.event_id]} now")
            if f.kind is Kind.EVENT_REMOVED and f.event_id in moved
            else f
            for f in result.findings
            if not (f.kind is Kind.EVENT_INSERTED and f.event_id in moved)
        ]
