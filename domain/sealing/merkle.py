"""Merkle trees over as many leaves as a power of two, with the hashes of RFC 6962.

Source: https://www.rfc-editor.org/rfc/rfc6962#section-2.1
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(content: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(_LEAF + content).digest()


def root_hash(leaves: Sequence[bytes]) -> bytes:
    """The hash of the tree over these hashes of leaves, whose number is a power of two."""
    level = list(leaves)
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from the leaf at ``index`` to the root: its sibling's first."""
    level, path = list(leaves), []
    while len(level) > 1:
        path.append(level[index ^ 1])
        level, index = _level_above(level), index // 2
    return path


def root_of_path(leaf: bytes, index: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf's hash and its path lead to."""
    for sibling in path:
        pair = sibling + leaf if index & 1 else leaf + sibling
        leaf, index = hashlib.sha256(_NODE + pair).digest(), index // 2
    return leaf


def _level_above(level: Sequence[bytes]) -> list[bytes]:
    return [
        hashlib.sha256(_NODE + left + right).digest()
        for left, right in zip(level[::2], level[1::2], strict=True)
    ]
