"""Ids in order of time, so that what happens together lies together in every index.

Random ids meet another page of each index at every append: in a large log most of what the
database writes is then whole pages.
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
    """The id of what is called ``name`` of ``origin``: always the same, and of the same time.

    74 bits of the SHA-1 that version 5 is made of, behind the origin's time (UUID version 8, RFC
    9562, 5.8). Of an origin without a time, such as a caller's key, it is the version 5 itself.
    """
    digest = uuid5(origin, name)
    if origin.version not in (7, 8):
        return digest
    return _at(origin.int >> _RANDOM_BITS, digest.int, version=8)


def _at(milliseconds: int, random: int, version: int) -> UUID:
    low = random & ((1 << _RANDOM_BITS) - 1) & ~_VERSION_AND_VARIANT
    return UUID(int=milliseconds << _RANDOM_BITS | version << 76 | _VARIANT | low)
