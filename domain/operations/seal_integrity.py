"""Verifies that each seal continues the one before it, is signed, and states the right heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from domain.operations.log_findings import Kind, LogFinding
from domain.sealing.anchors import Kept
from domain.sealing.keys import PublicKey
from domain.sealing.reads import SealedHead, StoredSeal
from domain.sealing.seal import LaneHead, Seal, heads_root

#: Most missing seals in a row that are named.
_MAX_MISSING = 1000


class SealVerifier:
    """Verifies seals in their order."""

    def __init__(
        self, keys: Mapping[str, PublicKey], only_these: bool, kept: Sequence[Kept]
    ) -> None:
        """Nothing is verified yet.

        Args:
            keys: by their id.
            only_these: seals must be signed, by one of these keys.
            kept: seals that are kept elsewhere.
        """
        self._keys, self._only_these = keys, only_these
        self._kept: dict[int, set[bytes]] = {}
        for each in kept:
            self._kept.setdefault(each.number, set()).add(each.digest)
        self._expected = 1
        self._previous: bytes | None = None
        self._heads: list[LaneHead] = []
        self._signed = False

    def begin(
        self, number: int, digest: bytes, heads: Sequence[SealedHead], *, signed: bool = False
    ) -> None:
        """Begin behind a seal with this number, digest, and heads of lanes."""
        self._signed = signed
        self._expected, self._previous = number + 1, digest
        self._heads = [LaneHead(head.position, head.chain_digest) for head in heads]
        self._kept = {seq: found for seq, found in self._kept.items() if seq > number}

    def findings(self, stored: StoredSeal) -> Iterator[LogFinding]:
        """What is wrong with the next seal, and what is missing before it."""
        yield from self._missing(stored.seq - 1)
        if stored.seq < self._expected:
            detail = "its number is that of an earlier one"
            yield LogFinding(Kind.SEAL_CHANGED, detail, stored.seq)
        elif stored.seq != self._expected:
            self._previous = None  # is not known
        self._expected = stored.seq + 1
        for lane, head in stored.heads.items():
            if lane in range(len(self._heads)):
                self._heads[lane] = head
        seal = stored.seal
        yield from self.compare(stored.seq, seal.digest if seal is not None else b"")
        if seal is None or seal.number != stored.seq:
            detail = "it is no seal" if seal is None else f"it is seal {seal.number}"
            yield LogFinding(Kind.SEAL_CHANGED, detail, stored.seq)
            self._previous = None
            return
        if self._previous not in (None, seal.previous):
            detail = "it does not continue the seal before it"
            yield LogFinding(Kind.SEAL_CHANGED, detail, stored.seq)
        if heads_root(self._heads) != seal.root:
            detail = "the heads of lanes are not those it states"
            yield LogFinding(Kind.SEAL_CHANGED, detail, stored.seq)
        if (wrong := self._signature(seal)) is not None:
            yield LogFinding(*wrong, stored.seq)
        self._previous = seal.digest

    def learn(self, keys: Mapping[str, PublicKey]) -> None:
        """Take further keys, which were first used since."""
        if not self._only_these:
            self._keys = {**self._keys, **keys}

    def compare(self, number: int, digest: bytes) -> Iterator[LogFinding]:
        """How a seal differs from those of its number that are kept elsewhere."""
        for each in self._kept.pop(number, ()):
            if each != digest:
                detail = f"kept elsewhere is {each.hex()}, now it is {digest.hex() or 'no seal'}"
                yield LogFinding(Kind.ANCHOR_DIFFERS, detail, number)

    def cut_off(self, made: int | None, made_now: int | None) -> Iterator[LogFinding]:
        """What is missing after the last seal.

        Args:
            made: how many were made before all of them were read; None: that is not known.
            made_now: how many were made since.
        """
        if made is None or made_now is None:
            detail = "how many seals were made is not in the database any more"
            yield LogFinding(Kind.SEAL_REMOVED, detail, self._expected)
        elif made_now < self._expected - 1:
            detail = f"only {made_now} seals were made, says the database"
            yield LogFinding(Kind.SEAL_CHANGED, detail, self._expected - 1)
        else:
            yield from self._missing(made)
        for number in sorted(self._kept):
            yield LogFinding(Kind.SEAL_REMOVED, "it is missing, and is kept elsewhere", number)

    def _missing(self, to: int) -> Iterator[LogFinding]:
        for number in range(self._expected, min(to, self._expected + _MAX_MISSING) + 1):
            yield LogFinding(Kind.SEAL_REMOVED, "the seal is missing", number)

    def _signature(self, seal: Seal) -> tuple[Kind, str] | None:
        if seal.key_id is None:
            unsigned = self._only_these or self._signed
            return (Kind.SEAL_UNTRUSTED, "it is not signed") if unsigned else None
        self._signed = True
        key = self._keys.get(seal.key_id)
        if key is None:
            what = "not trusted" if self._only_these else "not known"
            return Kind.SEAL_UNTRUSTED, f"signed by key {seal.key_id}, which is {what}"
        if not key.signed(seal):
            return Kind.SEAL_CHANGED, f"key {seal.key_id} has not signed it"
        return None
