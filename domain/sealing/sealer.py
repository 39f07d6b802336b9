"""Makes seals, later than the events are appended, so that writers never wait."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.heads import Heads
from domain.eventlog.lanes import chain_digest
from domain.sealing.anchors import Anchor, AnchorDiffers
from domain.sealing.keys import KeyStore, PublicKey
from domain.sealing.reads import SealReads
from domain.sealing.seal import (
    EMPTY_LANE,
    NO_SEAL,
    InvalidSeal,
    LaneHead,
    Seal,
    heads_root,
    unsigned_seal,
)
from domain.telemetry import security_event

_SQL = load_statements(Path(__file__).with_name("sealing.sql"))

#: Logs a line per seal, so that its digest is also kept where the database's owner cannot reach it.
logger = logging.getLogger("qlp.seals")

#: Most events between two seals: a proof contains up to a digest for each of one lane's.
PAGE = 10_000


class SealsMissing(RuntimeError):
    """Seals that were made are missing."""


class LogRewritten(RuntimeError):
    """Events after the last seal do not continue what it covers."""


class _Last(NamedTuple):
    """The last seal: its number and digest; None for one of the time before 0022."""

    seq: int
    seal: Seal | None
    digest: bytes
    now: datetime


class Sealer:
    """Seals what was appended; any number may run at once."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        keys: KeyStore | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        """Nothing is called yet.

        Args:
            pool: connections to the log.
            keys: signs; without it, seals are chained, but anybody can have made them.
            anchor: keeps the last seal of each run elsewhere.
        """
        self._pool, self._keys, self._anchor = pool, keys, anchor
        self._reads = SealReads(pool)

    async def run_until_caught_up(self) -> int:
        """Seal everything committed since the last seal; returns the number of new seals.

        A crash loses nothing: a seal is inserted by one statement, and the next run continues after
        the last one.

        Raises:
            psycopg.OperationalError: the connection was lost.
            KeyUnavailable: nothing can be signed now.
            SealsMissing: seals that were made are missing; no new ones are made in their place.
            LogRewritten: what was sealed is gone, or does not lead to what follows it.
            AnchorUnavailable, AnchorDiffers: sealed, but not anchored.
        """
        count = 0
        while sealed := await self._seal_next():
            count += 1
            if sealed < PAGE:
                break
        if self._anchor is not None:
            await self._keep(self._anchor)
        return count

    async def _seal_next(self) -> int:
        """The number of events in a new seal; 0 if there is none."""
        last = await self._last()
        rows = await fetch(self._pool, _SQL["lanes"], {"seq": last.seq})
        before = [LaneHead(row[1], row[2]) if row[1] else EMPTY_LANE for row in rows]
        here, end = (Heads(tuple(row[column] for row in rows)) for column in (1, 0))
        if last.seal is not None and heads_root(before) != last.seal.root:
            raise _missing(last.seq, "the heads of lanes are not those it states")
        for lane, (now, sealed, digest, there) in enumerate(rows):
            if now < sealed:
                _rewritten(lane, now, f"ends at place {now}, and was sealed up to place {sealed}")
            if sealed and there != digest:
                _rewritten(lane, sealed, f"is not what was sealed at place {sealed}")
        to = here.step(end, PAGE)
        if not (count := here.events_to(to)):
            return 0
        heads = await self._verified(before, here, to)
        key = await self._keys.current() if self._keys is not None else None
        key_id = key.public.key_id if key is not None else None
        if last.seal is not None:
            await self._verify(last.seal, key.public if key is not None else None)
        seal = unsigned_seal(last.seq + 1, last.now, heads, last.digest, key_id)
        if key is not None:
            seal = seal.with_signature(await key.sign(seal.content))
        moved = [lane for lane, head in enumerate(heads) if head != before[lane]]
        params = {
            "seq": seal.number,
            "before": str(last.seal) if last.seal is not None else None,
            "statement": str(seal),
            "key_id": key_id,
            "public_key": key.public.pem if key is not None else None,
            "lanes": moved,
            "positions": [heads[lane].position for lane in moved],
            "chain_digests": [heads[lane].chain_digest for lane in moved],
        }
        if not await fetch(self._pool, _SQL["insert"], params):
            return 0
        logger.info(
            "seal seq=%d digest=%s events=%d key=%s",
            *(seal.number, seal.digest.hex(), seal.events, key_id),
        )
        return count

    async def _last(self) -> _Last:
        rows = await fetch(self._pool, _SQL["last"], {})
        [(made, seq, text, range_digest, now)] = rows
        if made != seq:
            raise _missing(seq, "seals after it are gone, or not what was made")
        if text is None:
            return _Last(seq, None, range_digest or NO_SEAL, now)
        try:
            seal = Seal.parse(text)
        except InvalidSeal:
            raise _missing(seq, "it is no seal any more") from None
        if seal.number != seq:
            raise _missing(seq, f"in its place is seal {seal.number}")
        return _Last(seq, seal, seal.digest, now)

    async def _verify(self, last: Seal, current: PublicKey | None) -> None:
        """Verify the signature of the last seal before another one continues it."""
        if last.key_id is None:
            return
        keys = await self._reads.keys()
        if current is not None:
            keys[current.key_id] = current
        if last.key_id not in keys or not keys[last.key_id].signed(last):
            raise _missing(last.number, "its signature does not hold")

    async def _verified(self, before: Sequence[LaneHead], here: Heads, to: Heads) -> list[LaneHead]:
        """The lanes' heads at ``to``, if the chain leads there from those that are sealed."""
        heads = list(before)
        for lane, place, digest, chained in await fetch(
            self._pool, _SQL["chain"], here.range_to(to)
        ):
            position, chain = heads[lane]
            if place != position + 1 or chained != chain_digest(lane, place, chain, digest):
                _rewritten(lane, place, f"does not lead from place {position} to place {place}")
            heads[lane] = LaneHead(place, chained)
        for lane, head in enumerate(heads):
            if head.position != to.positions[lane]:
                _rewritten(lane, head.position, f"has no place {head.position + 1} any more")
        return heads

    async def _keep(self, anchor: Anchor) -> None:
        last = await self._last()
        rows = await fetch(self._pool, _SQL["anchored"], {"anchor": anchor.name})
        if last.seal is None or (rows and rows[0][0] == last.seq):
            return
        try:
            await anchor.keep(last.seal)
        except AnchorDiffers:
            if (await self._last()).seq != last.seq:
                return  # another process has made and kept the next one meanwhile
            security_event("anchor_differs", seal=last.seq)
            raise
        await fetch(self._pool, _SQL["anchor"], {"anchor": anchor.name, "seq": last.seq})


def _missing(seq: int, what: str) -> SealsMissing:
    security_event("seals_missing", last=seq)
    return SealsMissing(
        f"seal {seq}: {what}: see `qlp log verify`; docs/operators.md says how to begin anew"
    )


def _rewritten(lane: int, place: int, what: str) -> None:
    security_event("log_rewritten", lane=lane, place=place)
    raise LogRewritten(f"lane {lane} {what}: see `qlp log verify` and docs/operators.md")
