"""Reads seals as they are stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.sealing.keys import InvalidKey, PublicKey
from domain.sealing.seal import EMPTY_LANE, InvalidSeal, LaneHead, Seal

_SQL = load_statements(Path(__file__).with_name("sealing.sql"))

_PAGE = 500


class StoredSeal(NamedTuple):
    """A row of seals, and those of its heads.

    Attributes:
        seal: None if its text is none.
        heads: by lane, those that it says.
    """

    seq: int
    seal: Seal | None
    heads: dict[int, LaneHead]


class SealedHead(NamedTuple):
    """A head of a lane that was sealed."""

    seq: int
    position: int
    chain_digest: bytes


class Covering(NamedTuple):
    """The first seal of an event, and up to which position of the event's lane it is."""

    seq: int
    position: int
    seal: Seal | None


class SealReads:
    """Reads seals."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def after(self, seq: int) -> AsyncIterator[StoredSeal]:
        """All seals after number ``seq``, in order."""
        while rows := await fetch(self._pool, _SQL["seals"], {"after": seq, "limit": _PAGE}):
            heads: dict[int, dict[int, LaneHead]] = {}
            params = {"after": seq, "to": rows[-1][0]}
            for number, lane, *head in await fetch(self._pool, _SQL["heads_of"], params):
                if None not in head:
                    heads.setdefault(number, {})[lane] = LaneHead(*head)
            for number, text in rows:
                yield StoredSeal(number, _parsed(text or ""), heads.get(number, {}))
            seq = rows[-1][0]

    async def newest(self, limit: int) -> list[Seal]:
        """The last ``limit`` seals, newest first; rows that are none are left out."""
        rows = await fetch(self._pool, _SQL["newest"], {"limit": limit})
        return [seal for (text,) in rows if (seal := _parsed(text)) is not None]

    async def heads_at(self, seq: int) -> list[LaneHead]:
        """The heads of all lanes in seal number ``seq``."""
        rows = await fetch(self._pool, _SQL["heads_at"], {"seq": seq})
        return [EMPTY_LANE if None in row else LaneHead(*row) for row in rows]

    async def heads_of_lane(self, lane: int, after: int, to: int) -> Sequence[SealedHead]:
        """A lane's heads after a position, in the seals up to number ``to``, in order."""
        params = {"lane": lane, "after": after, "to": to}
        return [SealedHead(*row) for row in await fetch(self._pool, _SQL["heads_of_lane"], params)]

    async def covering(self, lane: int, position: int) -> Covering | None:
        """The first seal of an event; None if there is none yet."""
        params = {"lane": lane, "lane_position": position}
        for seq, to, text in await fetch(self._pool, _SQL["covering"], params):
            return Covering(seq, to, _parsed(text or ""))
        return None

    async def heads_of_nothing(self) -> Sequence[tuple[int, int, int]]:
        """Lane, position and number of heads, at most 1,000, of seals that were not made."""
        params = {"limit": 1000}
        rows = await fetch(self._pool, _SQL["heads_of_nothing"], params)
        return [(lane, position, seq) for lane, position, seq in rows]

    async def made(self) -> int | None:
        """How many seals were made; None if that is gone."""
        rows = await fetch(self._pool, _SQL["progress"], {})
        return int(rows[0][0]) if rows else None

    async def keys(self) -> dict[str, PublicKey]:
        """The keys that have signed seals, by their id; rows that are no keys are left out."""
        found = {}
        for _, pem in await fetch(self._pool, _SQL["keys"], {}):
            try:
                key = PublicKey.parse(pem)
            except InvalidKey:
                continue
            found[key.key_id] = key
        return found


def _parsed(text: str) -> Seal | None:
    try:
        return Seal.parse(text)
    except InvalidSeal:
        return None
