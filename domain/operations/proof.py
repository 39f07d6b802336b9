"""Proves that an event is in the log, to somebody who has no access to it.

The proof contains the event, the digests that lead from it to its lane's head in a seal, the path
from there to the seal's root, the seal and the public key. Whoever has it can check it with
`docs/security/check_proof.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.digests import StoredEvent, microseconds
from domain.eventlog.lanes import CHAIN_START, chain_digest
from domain.sealing.merkle import inclusion_path
from domain.sealing.reads import SealReads
from domain.sealing.seal import heads_leaves, heads_root

_SQL = load_statements(Path(__file__).with_name("proof.sql"))

FORMAT = "qlp-proof-1"


class NoProof(LookupError):
    """There is nothing to prove, or the log contradicts itself; the message says which."""


async def prove(pool: AsyncConnectionPool, event_id: UUID) -> dict[str, Any]:
    """The proof of an event, as JSON has it; digests and hashes are hexadecimal.

    Raises:
        NoProof: the event is not in the log or not sealed yet, or the log is not what was sealed.
    """
    seals = SealReads(pool)
    rows = await fetch(pool, _SQL["event"], {"event_id": event_id})
    if not rows:
        raise NoProof(f"no event {event_id} is in the log")
    [(lane, position, before, *columns)] = rows
    event = StoredEvent(*columns)
    covering = await seals.covering(lane, position)
    if covering is None:
        raise NoProof(
            "the event is not sealed yet; the function seal_log does that, by default within half "
            "a minute"
        )
    seal = covering.seal
    params = {"lane": lane, "after": position, "to": covering.position}
    following = [digest for (digest,) in await fetch(pool, _SQL["following"], params)]
    heads = await seals.heads_at(covering.seq)
    chain = before if before is not None else CHAIN_START
    for place, digest in enumerate([event.digest, *following], position):
        chain = chain_digest(lane, place, chain, digest)
    if (
        seal is None
        or (covering.position, chain) != heads[lane]
        or heads_root(heads) != seal.root
        or (position == 1) is not (before is None)
    ):
        raise NoProof(f"the log is not what seal {covering.seq} covers: see `qlp log verify`")
    keys = await seals.keys()
    key = keys.get(seal.key_id) if seal.key_id is not None else None
    return {
        "format": FORMAT,
        "event": {
            "event_id": str(event.event_id),
            "command_id": str(event.command_id),
            "stream_id": event.stream_id,
            "version": event.version,
            "type": event.type,
            "schema_version": event.schema_version,
            "tenant_id": event.tenant_id,
            "recorded_at": event.recorded_at.isoformat(),
            "recorded_at_microseconds": microseconds(event.recorded_at),
            "metadata": event.metadata,
            "data": event.data,
        },
        "lane": lane,
        "lane_position": position,
        "chain_before": (before or CHAIN_START).hex(),
        "following": [digest.hex() for digest in following],
        "path": [node.hex() for node in inclusion_path(heads_leaves(heads), lane)],
        "seal": str(seal),
        "public_key": key.pem if key is not None else None,
    }
