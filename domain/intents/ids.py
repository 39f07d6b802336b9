"""Ids in order of time, so that what happens together is close together in every index.

With random ids, every append changes a different page of each index, and in a large log most of
what the database then writes is whole pages.
"""

from __future__ import annotations

import os
import time
from uuid import UUID, uuid5

_TIME_BITS = 48
_RANDOM_BITS = 128 - _TIME_BITS
_VERSION_AND_VARIANT = (0xF << 76) | (0x3 << 62)
_VARIANT = 0x2 << 62


def new_id() -> UUID:
    """A new id: milliseconds since 1970, then 74 random bits (UUID version 7, RFC 9562, 5.7)."""
    random = int.from_bytes(os.urandom(_RANDOM_BITS // 8))
    return _at(time.time_ns() // 1_000_000, random, version=7)


def derived_id(origin: UUID, name: str) -> UUID:
    """The id of the thing called ``name`` of ``origin``: always the same, with the origin's time.

    The origin's time, then 74 bits of the SHA-1 that version 5 is made of (UUID version 8, RFC
    9562, 5.8). For an origin without a time, such as a caller's key, it is the version 5 itself.
    """
    digest = uuid5(origin, name)
    if origin.version not in (7, 8):
        return digest
    return _at(origin.int >> _RANDOM_BITS, digest.int, version=8)


def _at(milliseconds: int, random: int, version: int) -> UUID:
    low = random & ((1 << _RANDOM_BITS) - 1) & ~_VERSION_AND_VARIANT
    return UUID(int=milliseconds << _RANDOM_BITS | version << 76 | _VARIANT | low)
