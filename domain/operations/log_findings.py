"""What may have been done to the log, and where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """What was done to the log."""

    EVENT_CHANGED = "event changed"
    EVENT_REMOVED = "event removed"
    EVENT_INSERTED = "event inserted"
    EVENT_MOVED = "event moved"
    CHAIN_BROKEN = "chain broken"
    LANE_REWRITTEN = "lane rewritten"
    OUT_OF_RANGE = "out of range"
    VERSIONS_MISSING = "versions missing"
    SEAL_CHANGED = "seal changed"
    SEAL_REMOVED = "seal removed"
    SEAL_UNTRUSTED = "seal untrusted"
    ANCHOR_DIFFERS = "anchor differs"


@dataclass(frozen=True, slots=True)
class LogFinding:
    """A difference between the log and what it was.

    Attributes:
        seal: number of the first seal that covers the event, or of the seal itself.
        lane, lane_position: where it is; of events that are gone, the first place.
        event_id, stream_id, version: the event's; of events that are gone, those of the one behind.
    """

    kind: Kind
    detail: str
    seal: int | None = None
    lane: int | None = None
    lane_position: int | None = None
    event_id: UUID | None = None
    stream_id: str | None = None
    version: int | None = None
