"""A seal: a signed statement of how far the log has come in every lane.

It is a JSON Web Signature in its compact form (RFC 7515) with the algorithm ES256, so that anybody
can check one with a common library. Its payload is a JSON object: ``seal`` is its number,
``sealed_at`` a time, ``events`` the number of events that it covers, ``root`` the root of a Merkle
tree over the heads of all lanes, and ``previous`` the digest of the seal before it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple

import msgspec

from domain.eventlog.lanes import CHAIN_START, LANES
from domain.sealing.merkle import leaf_hash, root_hash

#: ``previous`` in the first seal.
NO_SEAL = bytes(32)

#: Most characters of a seal as text.
MAX_TEXT = 4096

_LEAF = struct.Struct(">hq32s")

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class InvalidSeal(ValueError):
    """A text is not a seal."""


class LaneHead(NamedTuple):
    """A lane's last event: its position, and its digest in the lane's chain."""

    position: int
    chain_digest: bytes


#: The head of a lane without events.
EMPTY_LANE = LaneHead(0, CHAIN_START)


class _Header(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    alg: Literal["ES256", "none"]
    kid: str | None = None


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    seal: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    sealed_at: Annotated[datetime, msgspec.Meta(tz=True)]
    events: _Number
    root: _Digest
    previous: _Digest


@dataclass(frozen=True, slots=True)
class Seal:
    """A seal that was made, or read.

    Attributes:
        number: 1, 2, 3, … without gaps.
        sealed_at: by the database's clock.
        events: how many events the log had.
        root: see `heads_root`.
        previous: the digest of the seal before it; `NO_SEAL` in the first.
        key_id: names the key that signed it; None if none did.
        content: what is signed: header and payload, as they stand in the text.
        signature: r and s, 32 bytes each; empty without a key.
    """

    number: int
    sealed_at: datetime
    events: int
    root: bytes
    previous: bytes
    key_id: str | None
    content: str
    signature: bytes = b""

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is signed. Kept elsewhere, it proves the log up to here."""
        return hashlib.sha256(self.content.encode()).digest()

    def with_signature(self, signature: bytes) -> Seal:
        """The same, signed."""
        return replace(self, signature=signature)

    def __str__(self) -> str:
        """As text; see `parse`."""
        return f"{self.content}.{base64url(self.signature)}"

    @classmethod
    def parse(cls, text: str) -> Seal:
        """The seal of a text, whose signature is not checked.

        Raises:
            InvalidSeal: it is none.
        """
        content, _, signature = text.rpartition(".")
        header, _, payload = content.partition(".")
        if len(text) > MAX_TEXT:
            raise InvalidSeal(f"has more than {MAX_TEXT} characters")
        try:
            about = msgspec.json.decode(_decoded(header), type=_Header)
            said = msgspec.json.decode(_decoded(payload), type=_Payload)
            signed = _decoded(signature)
        except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
            raise InvalidSeal("is not a signed statement as `qlp log seals` shows it") from None
        if len(signed) != (64 if about.alg == "ES256" else 0) or (
            (about.alg == "ES256") is (about.kid is None)
        ):
            raise InvalidSeal("its signature, algorithm and key do not go together")
        root, previous = (bytes.fromhex(each) for each in (said.root, said.previous))
        return cls(
            *(said.seal, said.sealed_at, said.events, root, previous, about.kid, content, signed)
        )


def unsigned_seal(
    number: int, sealed_at: datetime, heads: Sequence[LaneHead], previous: bytes, key_id: str | None
) -> Seal:
    """The statement that ``heads`` are those of all lanes, for a key to sign, if there is one."""
    root, events = heads_root(heads), sum(head.position for head in heads)
    header = _Header("none" if key_id is None else "ES256", key_id)
    payload = _Payload(number, sealed_at.astimezone(UTC), events, root.hex(), previous.hex())
    content = ".".join(base64url(msgspec.json.encode(part)) for part in (header, payload))
    return Seal(number, sealed_at, events, root, previous, key_id, content)


def heads_root(heads: Sequence[LaneHead]) -> bytes:
    """The root of the Merkle tree over the heads of all lanes, in their order."""
    return root_hash(heads_leaves(heads))


def heads_leaves(heads: Sequence[LaneHead]) -> list[bytes]:
    """The hashes of the tree's leaves: each of a lane's number and head.

    Raises:
        ValueError: there is not one head for each lane.
    """
    if len(heads) != LANES:
        raise ValueError(f"{len(heads)} heads of {LANES} lanes")
    return [leaf_hash(_LEAF.pack(lane, *head)) for lane, head in enumerate(heads)]


def base64url(raw: bytes) -> str:
    """In base64 for URLs, without padding, as in RFC 7515."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
