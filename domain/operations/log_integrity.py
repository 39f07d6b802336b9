"""Verifies that the log is what it was when it was written, and sealed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.lanes import LANES
from domain.eventlog.log import EventLog
from domain.operations.lane_integrity import LaneVerifier
from domain.operations.log_findings import Kind, LogFinding
from domain.operations.seal_integrity import SealVerifier
from domain.sealing.anchors import Kept
from domain.sealing.keys import PublicKey
from domain.sealing.range_seals import RangeSealReads
from domain.sealing.reads import SealedHead, SealReads
from domain.sealing.seal import EMPTY_LANE, NO_SEAL, Seal, heads_root

_SQL = load_statements(Path(__file__).with_name("log_integrity.sql"))

#: Most findings that are kept; more are only counted.
MAX_FINDINGS = 1000

_VERSIONS_PAGE = 10_000


@dataclass(slots=True)
class SignedBy:
    """Which seals a key has signed.

    Attributes:
        key_id: None: none did.
        first, last: their first and last number.
    """

    key_id: str | None
    first: int
    last: int
    seals: int = 0


@dataclass(slots=True)
class Verification:
    """What was verified, and what was found.

    Attributes:
        seals: how many were verified.
        events: how many of the verified events are covered by a seal.
        unsealed: those after it: only their chain was verified.
        anchored: seals kept elsewhere that were compared.
        suppressed: findings beyond `MAX_FINDINGS`.
        signed_by: by key, in the order of the first seals.
        last: the last seal; kept elsewhere, its digest proves the log up to there.
    """

    seals: int = 0
    events: int = 0
    unsealed: int = 0
    anchored: int = 0
    suppressed: int = 0
    findings: list[LogFinding] = field(default_factory=list)
    signed_by: dict[str | None, SignedBy] = field(default_factory=dict, compare=False)
    last: Seal | None = field(default=None, compare=False)

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def add(self, kind: Kind, detail: str, seal: int) -> None:
        """Keep a finding about a seal."""
        self.add_finding(LogFinding(kind, detail, seal))

    def add_finding(self, finding: LogFinding) -> None:
        """Keep a finding, or only count it."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.suppressed += 1

    def add_all(self, findings: Iterable[LogFinding]) -> None:
        """Keep findings, or only count them."""
        for finding in findings:
            self.add_finding(finding)

    def note_key(self, seal: Seal) -> None:
        """Note who signed a seal."""
        by = self.signed_by.setdefault(seal.key_id, SignedBy(seal.key_id, seal.number, seal.number))
        by.last, by.seals = seal.number, by.seals + 1


class UnknownSeal(LookupError):
    """There is no seal with this number, from which verification could begin."""


#: Called with the number of events verified so far, and of all of them.
Progress = Callable[[int, int], None]


class _Gap(NamedTuple):
    """In a stream, ``version`` follows ``before`` directly; those between are missing."""

    stream_id: str
    before: int
    version: int


class LogVerifier:
    """Recomputes everything from the stored columns; trusts nothing that the database computes."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._log = EventLog(pool)
        self._seals, self._range_seals = SealReads(pool), RangeSealReads(pool)

    async def verify(
        self,
        since: int = 0,
        kept: Sequence[Kept] = (),
        trusted: Collection[PublicKey] = (),
        progress: Progress = lambda _done, _total: None,
    ) -> Verification:
        """Verify seals, events, and that one leads to the other.

        Events may be appended and sealed meanwhile.

        Args:
            since: this seal, and all that it covers, is trusted; 0: nothing is.
            kept: seals that are kept elsewhere; only they can show that the whole log was rewritten
                by somebody who can sign.
            trusted: the only keys that may have signed; without any, those that the database knows.
            progress: see `Progress`.

        Raises:
            UnknownSeal: ``since`` is no seal, or one of before migration 0022.
        """
        result = Verification()
        keys = {key.key_id: key for key in trusted} or await self._seals.keys()
        verifier = SealVerifier(keys, bool(trusted), kept)
        result.anchored = len(kept)
        start = await self._start(since, verifier, result)
        await self._verify_seals(since, start, verifier, result)
        await self._verify_lanes(start, result, progress)
        await self._verify_versions(result)
        return result

    async def _start(
        self, since: int, verifier: SealVerifier, result: Verification
    ) -> list[SealedHead]:
        """What is trusted, by lane."""
        if not since:
            await self._verify_range_seals(verifier, result)
            return [SealedHead(0, *EMPTY_LANE)] * LANES
        stored = await anext(self._seals.after(since - 1), None)
        if stored is None or stored.seq != since or stored.seal is None:
            raise UnknownSeal(f"there is no seal {since} from which to begin")
        heads = await self._seals.heads_at(since)
        result.last = stored.seal
        result.add_all(verifier.compare(since, stored.seal.digest))
        if heads_root(heads) != stored.seal.root:
            result.add(Kind.SEAL_CHANGED, "the heads of lanes are not those it states", since)
        return [SealedHead(since, *head) for head in heads]

    async def _verify_range_seals(self, verifier: SealVerifier, result: Verification) -> None:
        expected, previous = 1, NO_SEAL
        async for seal in self._range_seals.all():
            for number in range(expected, min(seal.seq, expected + MAX_FINDINGS)):
                result.add(Kind.SEAL_REMOVED, "the seal is missing", number)
            if not seal.intact:
                detail = "its content does not match its digest"
                result.add(Kind.SEAL_CHANGED, detail, seal.seq)
            elif seal.seq == expected and seal.previous != previous:
                detail = "it does not continue the seal before it"
                result.add(Kind.SEAL_CHANGED, detail, seal.seq)
            result.add_all(verifier.compare(seal.seq, seal.digest))
            for event in await self._range_seals.changed(seal.seq):
                kind = Kind.EVENT_REMOVED if event.gone else Kind.EVENT_CHANGED
                detail = "no longer in the log" if event.gone else "not what was sealed"
                where = (None, None, event.event_id, event.stream_id, event.version)
                result.add_finding(LogFinding(kind, detail, seal.seq, *where))
            expected, previous, result.seals = seal.seq + 1, seal.digest, result.seals + 1

    async def _verify_seals(
        self, since: int, start: Sequence[SealedHead], verifier: SealVerifier, result: Verification
    ) -> None:
        """Verify the seals after number ``since``."""
        if since:
            assert result.last is not None
            signed = result.last.key_id is not None
            verifier.begin(since, result.last.digest, start, signed=signed)
        else:
            verifier.begin(*await self._range_seals.last(), start)
        made = await self._seals.made()
        known: set[str | None] = set()
        async for stored in self._seals.after(since):
            result.seals += 1
            if stored.seal is not None and stored.seal.key_id not in known:
                known.add(stored.seal.key_id)
                verifier.learn(await self._seals.keys())
            result.add_all(verifier.findings(stored))
            if stored.seal is not None:
                result.note_key(stored.seal)
                result.last = stored.seal
        result.add_all(verifier.cut_off(made, await self._seals.made()))
        for lane, position, seq in await self._seals.heads_of_nothing():
            detail = "a head of a seal that was not made"
            result.add_finding(LogFinding(Kind.SEAL_CHANGED, detail, seq, lane, position))

    async def _verify_lanes(
        self, start: Sequence[SealedHead], result: Verification, progress: Progress
    ) -> None:
        lanes = LaneVerifier(self._pool)
        last = result.last.number if result.last is not None else 0
        ends = (await self._log.heads()).positions
        total = sum(end or 0 for end in ends) - sum(head.position for head in start)
        async for finding in lanes.findings(
            start, last, lambda done: progress(min(done, total), total)
        ):
            result.add_finding(finding)
        result.events, result.unsealed = lanes.sealed, lanes.unsealed

    async def _verify_versions(self, result: Verification) -> None:
        """Find missing versions; not where a finding names the event behind them."""
        named = {finding.event_id for finding in result.findings}
        async for gap in self._gaps():
            params = {"stream_id": gap.stream_id, "version": gap.version}
            rows = await fetch(self._pool, _SQL["event_at"], params)
            for lane, place, event_id in rows:
                if event_id in named:
                    continue
                kind, detail = Kind.OUT_OF_RANGE, "versions begin with 1"
                if gap.version >= 1:
                    kind, first, last = Kind.VERSIONS_MISSING, gap.before + 1, gap.version - 1
                    detail = f"versions {first} to {last} of the stream are not in the log"
                where = (lane, place, event_id, gap.stream_id, gap.version)
                result.add_finding(LogFinding(kind, detail, None, *where))

    async def _gaps(self) -> AsyncIterator[_Gap]:
        """Where versions are missing in streams, or are below 1."""
        stream_id, version = "", 2**31 - 1
        while True:
            params = {"stream_id": stream_id, "version": version, "limit": _VERSIONS_PAGE}
            rows = await fetch(self._pool, _SQL["versions"], params)
            for next_stream, next_version in rows:
                before = version if next_stream == stream_id else 0
                stream_id, version = next_stream, next_version
                if version != before + 1:
                    yield _Gap(stream_id, before, version)
            if len(rows) < _VERSIONS_PAGE:
                return
