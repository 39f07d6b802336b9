"""A place in the log: a position in each of its lanes."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from domain.eventlog.lanes import LANES

#: What the text of heads begins with.
FORMAT = "h1."

#: Bytes that tell whether a text was changed.
_CHECK = 4

#: The most characters of a text: ten bytes at most for each number, four characters for three.
_MAX_TEXT = 4 * ((10 * LANES + _CHECK) // 3 + 1) + len(FORMAT)


class InvalidHeads(ValueError):
    """A text is not one that `Heads.__str__` has made."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Up to which position in each lane, from lane 0 on.

    What lies up to there is complete and stays as it is: within a lane, positions have no gaps, and
    events become visible in their order.
    """

    positions: tuple[int, ...]

    @classmethod
    def start(cls) -> Heads:
        """The place before the first event."""
        return cls((0,) * LANES)

    def reaches(self, other: Heads) -> bool:
        """Whether everything up to ``other`` lies up to here."""
        return all(mine >= its for mine, its in zip(self.positions, other.positions, strict=True))

    def events_to(self, to: Heads) -> int:
        """The number of events between here and ``to``."""
        return sum(_unread(self, to))

    def union(self, other: Heads) -> Heads:
        """The first place that reaches both."""
        return Heads(tuple(map(max, self.positions, other.positions)))

    def within(self, end: Heads) -> Heads:
        """The last place that both reach."""
        return Heads(tuple(map(min, self.positions, end.positions)))

    def step(self, to: Heads, limit: int) -> Heads:
        """A place between here and ``to``, with ``limit`` events in between, or all there are.

        It takes about as many events of each lane, so that lanes go on side by side, as they were
        written.
        """
        unread = _unread(self, to)
        if sum(unread) <= limit:
            return self.union(to)
        each, left, lanes = 0, limit, LANES
        for count in sorted(unread):
            if count > (each := left // lanes):
                break
            left, lanes = left - count, lanes - 1
        left -= each * lanes  # those with more get one more, as far as that goes
        positions = []
        for position, count in zip(self.positions, unread, strict=True):
            more = count > each and left > 0
            left -= more
            positions.append(position + min(count, each) + more)
        return Heads(tuple(positions))

    def range_to(self, to: Heads) -> dict[str, Any]:
        """Statement parameters: the lanes with events between here and ``to``, and from where."""
        lanes = [lane for lane, count in enumerate(_unread(self, to)) if count]
        return {
            "lanes": lanes,
            "after": [self.positions[lane] for lane in lanes],
            "to": [to.positions[lane] for lane in lanes],
        }

    def __str__(self) -> str:
        """As text without spaces, of 350 characters or more; see `parse`."""
        packed = b"".join(map(_packed, self.positions))
        return FORMAT + base64.urlsafe_b64encode(packed + _check(packed)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Heads:
        """The heads of a text.

        Raises:
            InvalidHeads: it is not one of heads.
        """
        if not text.startswith(FORMAT) or len(text) > _MAX_TEXT or not text.isascii():
            raise InvalidHeads(f"begins with {FORMAT!r} and is as long as it was printed")
        encoded = text.removeprefix(FORMAT)
        try:
            raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
            heads = cls(_unpacked(raw[:-_CHECK]))
        except (binascii.Error, ValueError):
            raise InvalidHeads("was cut off, or changed") from None
        if str(heads) != text:
            raise InvalidHeads("was cut off, or changed")
        return heads


def _unread(after: Heads, to: Heads) -> Sequence[int]:
    return [max(t - a, 0) for a, t in zip(after.positions, to.positions, strict=True)]


def _check(packed: bytes) -> bytes:
    """Tells a text that somebody has mistyped."""
    return hashlib.sha256(packed).digest()[:_CHECK]


def _packed(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all bytes but the last have the highest bit set."""
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


def _unpacked(raw: bytes) -> tuple[int, ...]:
    numbers, number, shift = [], 0, 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            continue
        numbers.append(number)
        number, shift = 0, 0
    if len(numbers) != LANES or shift or max(numbers) >= 2**63:
        raise ValueError("not one number for each lane")
    return tuple(numbers)
