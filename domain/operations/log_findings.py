"""What may have been done to a sealed log, and how it is found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.seals import Seal, SealedEvent

DIGEST_MISMATCH = "its content does not match its digest"


class Kind(StrEnum):
    """What was done to the log."""

    EVENT_CHANGED = "event changed"
    EVENT_REMOVED = "event removed"
    EVENT_INSERTED = "event inserted"
    EVENT_MOVED = "event moved"
    SEAL_CHANGED = "seal changed"
    SEAL_REMOVED = "seal removed"
    HEAD_DIFFERS = "head differs"
    VERSIONS_MISSING = "versions missing"
    OUT_OF_RANGE = "out of range"
    CHAIN_BROKEN = "chain broken"


@dataclass(frozen=True, slots=True)
class LogFinding:
    """A difference between the log and what was sealed.

    Attributes:
        seal: number of the seal in whose range it lies; None after the last seal.
        positions: first and last position of that seal.
        event_id, position, stream_id, version: the event's, as sealed if it was sealed.
    """

    kind: Kind
    detail: str
    seal: int | None = None
    positions: tuple[int, int] | None = None
    event_id: UUID | None = None
    position: int | None = None
    stream_id: str | None = None
    version: int | None = None


def compare(seal: Seal, found: Sequence[StoredEvent]) -> list[LogFinding]:
    """How the events ``found`` in the range of ``seal`` differ from those that it names."""
    sealed = {event.event_id: event for event in seal.events}
    here: dict[UUID, StoredEvent] = {}
    findings = []
    for stored in found:
        if stored.event_id in here or stored.event_id not in sealed:
            detail = "it was not there when the range was sealed"
            findings.append(of_event(Kind.EVENT_INSERTED, detail, seal, stored))
        else:
            here[stored.event_id] = stored
    in_order = _in_order(here, seal.events)
    for event in seal.events:
        now = here.get(event.event_id)
        if now is None:
            gone = "it is no longer in the log"
            findings.append(of_event(Kind.EVENT_REMOVED, gone, seal, event))
            continue
        if (change := _changed(event, now)) is not None:
            findings.append(of_event(Kind.EVENT_CHANGED, change, seal, event))
        if now.position != event.position or event.event_id not in in_order:
            moved = f"it is now at position {now.position}, in another order"
            findings.append(of_event(Kind.EVENT_MOVED, moved, seal, event))
    return findings


def _in_order(here: Iterable[UUID], events: Sequence[SealedEvent]) -> set[UUID]:
    """The largest part of ``here`` that is still in the sealed order.

    It is the longest increasing subsequence of the sealed places; the other events were moved.
    """
    place = {event.event_id: index for index, event in enumerate(events)}
    lowest: list[int] = []  # lowest[n]: the smallest place that ends a run of n + 1
    before: dict[int, int | None] = {}
    for index in map(place.__getitem__, here):
        length = bisect_left(lowest, index)
        before[index] = lowest[length - 1] if length else None
        lowest[length : length + 1] = [index]
    kept = set()
    at = lowest[-1] if lowest else None
    while at is not None:
        kept.add(events[at].event_id)
        at = before[at]
    return kept


def _changed(sealed: SealedEvent, now: StoredEvent) -> str | None:
    computed = event_digest(now)
    if computed == sealed.digest:
        return None if now.digest == sealed.digest else "its digest was overwritten"
    if computed == now.digest:
        return "its content differs from what was sealed, and its digest was changed to match"
    return (
        f"{DIGEST_MISMATCH}, which is still the sealed one"
        if now.digest == sealed.digest
        else DIGEST_MISMATCH
    )


def of_event(
    kind: Kind, detail: str, seal: Seal | None, event: StoredEvent | SealedEvent
) -> LogFinding:
    """A finding about ``event``; ``seal`` is None after the last seal."""
    seq, positions = (seal.seq, _positions(seal)) if seal is not None else (None, None)
    where = (event.event_id, event.position, event.stream_id, event.version)
    return LogFinding(kind, detail, seq, positions, *where)


def of_seal(seal: Seal, detail: str) -> LogFinding:
    """A finding about the seal itself."""
    return LogFinding(Kind.SEAL_CHANGED, detail, seal.seq, _positions(seal))


def _positions(seal: Seal) -> tuple[int, int]:
    return seal.start.position, seal.end.position
