"""Lanes: the log's parts, each with an order of its own.

A stream lies in one lane, all its life. Within a lane, positions are gapless and in the order of
commits, and each event's digest in the chain covers the one before it. The database computes the
same (migration ``0014_lanes.sql``).
"""

from __future__ import annotations

import hashlib
import struct

from domain.eventlog.digests import DIGEST_BYTES

#: Number of lanes.
LANES = 256

#: What the chain of each lane begins with.
CHAIN_START = bytes(DIGEST_BYTES)

_CHAIN_FORMAT = b"\x03"
_PLACE = struct.Struct(">hq")


def lane_of(stream_id: str) -> int:
    """The lane of a stream, from 0 to `LANES` - 1: the first byte of the SHA-256 of its id."""
    return hashlib.sha256(stream_id.encode()).digest()[0]


def chain_digest(lane: int, lane_position: int, before: bytes, digest: bytes) -> bytes:
    """SHA-256 of a format byte, an event's place, the chain before it, and its own digest."""
    place = _PLACE.pack(lane, lane_position)
    return hashlib.sha256(b"".join((_CHAIN_FORMAT, place, before, digest))).digest()
