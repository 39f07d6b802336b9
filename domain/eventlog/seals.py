"""Seals: a chain of digests over the log, made later than the events, so that writers never wait.

Each seal lists the events of one range in the log's order with their digests, and contains the
digest of the seal before it. So whoever has seen one seal's digest can later tell whether any event
up to it was changed, removed, inserted or moved.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.checkpoints import CheckpointStore, Lease
from domain.eventlog.digests import DIGEST_BYTES, StoredEvent, microseconds
from domain.eventlog.models import Checkpoint
from domain.telemetry import security_event

_SQL = load_statements(Path(__file__).with_name("seals.sql"))

#: Logs a line per seal, so that its digest is also kept where the database's owner cannot reach it.
logger = logging.getLogger("qlp.seals")

NAME = "seals"

#: Events in one seal; each takes about 100 bytes of the seal's row.
PAGE = 1000

_EVENTS_PAGE, _VERSIONS_PAGE = 2000, 10_000

#: The previous digest of the first seal.
GENESIS = bytes(DIGEST_BYTES)

_SEAL_FORMAT = b"\x02"
_SEAL = struct.Struct(">q32sqi")
_MEMBER = struct.Struct(">q16siI32s")


@dataclass(frozen=True, slots=True)
class SealedEvent:
    """An event as a seal lists it."""

    position: int
    event_id: UUID
    stream_id: str
    version: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Seal:
    """A sealed range of the log.

    Attributes:
        seq: 1, 2, 3, … without gaps.
        start, end: the checkpoints of its first and last event when it was made.
        events: the range's events in the log's order.
        sealed_at: by the database's clock.
        previous_digest: the digest of the seal before; `GENESIS` for the first.
        digest: the stored `seal_digest` of all this.
    """

    seq: int
    start: Checkpoint
    end: Checkpoint
    sealed_at: datetime
    previous_digest: bytes
    digest: bytes
    events: tuple[SealedEvent, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """A seal's digest, hexadecimal; a copy kept elsewhere proves the log up to that seal."""

    seq: int
    digest: str
    events: int
    sealed_at: datetime


class Bounds(NamedTuple):
    """What was assigned so far: transaction ids below the one, positions up to the other."""

    transaction_id: int
    position: int


class Gap(NamedTuple):
    """In a stream, ``version`` follows ``before`` directly; those between are missing."""

    stream_id: str
    before: int
    version: int


def seal_digest(
    seq: int, previous_digest: bytes, sealed_at: datetime, events: tuple[SealedEvent, ...]
) -> bytes:
    """SHA-256 of a format byte, the number, previous digest, time, count and events of a seal.

    Transaction ids are left out: they belong to a cluster, and seals must stay valid in a restored
    one.
    """
    hasher = hashlib.sha256(_SEAL_FORMAT)
    hasher.update(_SEAL.pack(seq, previous_digest, microseconds(sealed_at), len(events)))
    for event in events:
        stream = event.stream_id.encode()
        hasher.update(
            _MEMBER.pack(
                event.position, event.event_id.bytes, event.version, len(stream), event.digest
            )
        )
        hasher.update(stream)
    return hasher.digest()


class SealsMissing(RuntimeError):
    """Seals that were made are missing."""


class Sealer:
    """Seals events below the horizon; one sealer works at a time, among all processes."""

    def __init__(self, checkpoints: CheckpointStore) -> None:
        self._checkpoints = checkpoints

    async def run_until_caught_up(self) -> int:
        """Seal everything committed since the last seal; returns the number of new seals.

        A crash loses nothing: a seal is one row, and the next run continues after the last one.
        Events are read over the connection that writes the seal, so both are in the same database.

        Raises:
            psycopg.OperationalError: that connection was lost, and with it the right to seal.
            SealsMissing: seals that were made are missing; no new ones are made in their place.
        """
        count = 0
        async with self._checkpoints.exclusive(NAME) as lease:
            while sealed := await _seal_next(lease):
                count += 1
                if sealed < PAGE:
                    break
        return count


async def _seal_next(lease: Lease) -> int:
    last = await lease.fetch(_SQL["last"], {"name": NAME})
    [(seq, previous, transaction_id, position, now, more_was_sealed)] = last
    if more_was_sealed:
        security_event("seals_missing", last=seq or 0)
        raise SealsMissing(
            f"seals after number {seq or 0} are gone: see `qlp log verify`; docs/operators.md "
            "says how to begin anew"
        )
    after = Checkpoint(transaction_id or 0, position or 0)
    rows = await lease.fetch(_SQL["unsealed"], {**after.params(), "limit": PAGE})
    if not rows:
        return 0
    events = tuple(SealedEvent(row[0], *row[2:]) for row in rows)
    seq, previous = (seq or 0) + 1, previous or GENESIS
    digest = seal_digest(seq, previous, now, events)
    start, end = (Checkpoint(row[1], row[0]) for row in (rows[0], rows[-1]))
    seal = {
        "seq": seq,
        **start.params("from_"),
        **end.params("to_"),
        "events": len(events),
        "positions": [event.position for event in events],
        "event_ids": [event.event_id for event in events],
        "stream_ids": [event.stream_id for event in events],
        "versions": [event.version for event in events],
        "digests": [event.digest for event in events],
        "sealed_at": now,
        "previous_digest": previous,
        "digest": digest,
    }
    async with lease.transaction():
        await lease.fetch(_SQL["insert"], seal)
        await lease.save(end)  # shows later if this seal was deleted
    logger.info("seal seq=%d digest=%s events=%d", seq, digest.hex(), len(events))
    return len(events)


class SealReads:
    """Reads seals."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def after(self, seq: int, limit: int) -> list[Seal]:
        """At most ``limit`` seals after number ``seq``, in order."""
        rows = await fetch(self._pool, _SQL["seals"], {"after": seq, "limit": limit})
        return [_seal(row) for row in rows]

    async def sealed_events(self, after: int) -> int:
        """How many events the seals after number ``after`` have, by their own count."""
        [[count]] = await fetch(self._pool, _SQL["sealed_events"], {"after": after})
        return int(count)

    async def heads(self, limit: int) -> list[Head]:
        """The last ``limit`` seals' digests, newest first."""
        return [_head(*row) for row in await fetch(self._pool, _SQL["heads"], {"limit": limit})]

    async def heads_of(self, seqs: list[int]) -> dict[int, Head]:
        """The digests of those seals of ``seqs`` that exist."""
        rows = await fetch(self._pool, _SQL["heads_of"], {"seqs": seqs})
        return {row[0]: _head(*row) for row in rows}

    async def stored(self, after: Checkpoint, to: Checkpoint) -> AsyncIterator[StoredEvent]:
        """The events after one checkpoint and up to another, as they are in the log now."""
        while True:
            params = {**after.params(), **to.params("to_"), "limit": _EVENTS_PAGE}
            rows = await fetch(self._pool, _SQL["stored"], params)
            for row in rows:
                yield StoredEvent(*row)
            if len(rows) < _EVENTS_PAGE:
                return
            after = Checkpoint(rows[-1][1], rows[-1][0])

    async def sealed_to(self) -> Checkpoint:
        """How far the log was ever sealed; the start if it never was."""
        rows = await fetch(self._pool, _SQL["sealed_to"], {"name": NAME})
        return Checkpoint(*rows[0]) if rows else Checkpoint.start()

    async def bounds(self) -> Bounds:
        """What the database has assigned so far."""
        [row] = await fetch(self._pool, _SQL["bounds"], {})
        return Bounds(*row)

    async def end(self) -> Checkpoint:
        """The last event whose transaction has begun, whether followers can read it yet or not."""
        rows = await fetch(self._pool, _SQL["end"], {})
        return Checkpoint(*rows[0]) if rows else Checkpoint.start()

    async def strays(self, limit: int) -> list[StoredEvent]:
        """Events that followers never read: of transactions that have not begun, or of none."""
        rows = await fetch(self._pool, _SQL["strays"], {"limit": limit})
        return [StoredEvent(*row) for row in rows]

    async def gaps(self) -> AsyncIterator[Gap]:
        """Where versions are missing in streams, or are below 1."""
        stream_id, version = "", 2**31 - 1
        while True:
            params = {"stream_id": stream_id, "version": version, "limit": _VERSIONS_PAGE}
            rows = await fetch(self._pool, _SQL["versions"], params)
            for next_stream, next_version in rows:
                before = version if next_stream == stream_id else 0
                stream_id, version = next_stream, next_version
                if version != before + 1:
                    yield Gap(stream_id, before, version)
            if len(rows) < _VERSIONS_PAGE:
                return

    async def event_at(self, stream_id: str, version: int) -> tuple[UUID, int] | None:
        """Id and position of an event; None if there is none."""
        params = {"stream_id": stream_id, "version": version}
        rows = await fetch(self._pool, _SQL["event_at"], params)
        return (rows[0][0], rows[0][1]) if rows else None

    async def positions_of(self, event_ids: list[UUID]) -> dict[UUID, int]:
        """The positions of those events that are in the log."""
        rows = await fetch(self._pool, _SQL["positions_of"], {"event_ids": event_ids})
        return dict(rows)


def _seal(row: tuple[Any, ...]) -> Seal:
    (seq, from_transaction, from_position, to_transaction, to_position) = row[:5]
    (sealed_at, previous, digest, count, *columns) = row[5:]
    # A tampered seal may contain anything; without its events, its digest cannot match.
    whole = all(len(column) == count and None not in column for column in columns)
    return Seal(
        seq,
        Checkpoint(from_transaction, from_position),
        Checkpoint(to_transaction, to_position),
        sealed_at,
        previous,
        digest,
        tuple(map(SealedEvent, *columns)) if whole else (),
    )


def _head(seq: int, digest: bytes, events: int, sealed_at: datetime) -> Head:
    return Head(seq, digest.hex(), events, sealed_at)
