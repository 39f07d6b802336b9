"""Seals of the form before migration 0022, which list the events of ranges of the log.

None are made any more. They still show whether an event of that time was changed or removed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.digests import microseconds
from domain.sealing.seal import NO_SEAL

_SQL = load_statements(Path(__file__).with_name("range_seals.sql"))

_FORMAT = b"\x02"
_SEAL = struct.Struct(">q32sqi")
_MEMBER = struct.Struct(">q16siI32s")
_PAGE = 20


class RangeSeal(NamedTuple):
    """A seal of that form; its digest is that of all the other fields."""

    seq: int
    sealed_at: datetime
    previous: bytes
    digest: bytes
    events: int
    positions: list[int]
    event_ids: list[UUID]
    stream_ids: list[str]
    versions: list[int]
    digests: list[bytes]

    @property
    def intact(self) -> bool:
        """Whether it is what it was when it was made."""
        columns: list[list[Any]] = [*self[5:]]
        if not all(len(column) == self.events and None not in column for column in columns):
            return False  # without its events, its digest cannot match
        try:
            return self.computed() == self.digest
        except (AttributeError, TypeError, struct.error):  # arrays in arrays, as nobody made any
            return False

    def computed(self) -> bytes:
        """The digest that its other fields have."""
        hasher = hashlib.sha256(_FORMAT)
        hasher.update(
            _SEAL.pack(self.seq, self.previous, microseconds(self.sealed_at), self.events)
        )
        for position, event_id, stream_id, version, digest in zip(*self[5:], strict=True):
            stream = stream_id.encode()
            hasher.update(_MEMBER.pack(position, event_id.bytes, version, len(stream), digest))
            hasher.update(stream)
        return hasher.digest()


class Changed(NamedTuple):
    """An event that is no longer what a seal says of it; without an id, if it is gone."""

    seq: int
    event_id: UUID
    stream_id: str
    version: int
    gone: bool


class RangeSealReads:
    """Reads these seals."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def all(self) -> AsyncIterator[RangeSeal]:
        """All of them, in order."""
        seq = 0
        while rows := await fetch(self._pool, _SQL["seals"], {"after": seq, "limit": _PAGE}):
            for row in rows:
                yield RangeSeal(*row)
            seq = rows[-1][0]

    async def last(self) -> tuple[int, bytes]:
        """The number and digest of the last one; 0 and `NO_SEAL` if there are none."""
        for seq, digest in await fetch(self._pool, _SQL["last"], {}):
            return seq, digest
        return 0, NO_SEAL

    async def changed(self, seq: int) -> list[Changed]:
        """What differs in the log now from what a seal lists."""
        return [Changed(*row) for row in await fetch(self._pool, _SQL["changed"], {"seq": seq})]
