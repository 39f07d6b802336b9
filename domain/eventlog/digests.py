"""Digests of events, computed from the columns exactly as they are stored.

The database computes the same digest when an event is inserted (migration ``0004_seals.sql``).
Verification computes it here, because a function in the database can be changed as easily as a row.
"""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

#: Bytes of a digest (SHA-256).
DIGEST_BYTES = 32

_EVENT_FORMAT = b"\x01"
_HEADER = struct.Struct(">16s16sqih5i")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL's
_MICROSECOND = timedelta(microseconds=1)


class StoredEvent(NamedTuple):
    """An event with its JSON as stored text and the digest that was computed at its insertion."""

    event_id: UUID
    stream_id: str
    version: int
    type: str
    schema_version: int
    tenant_id: str
    command_id: UUID
    recorded_at: datetime
    metadata: str
    data: str
    digest: bytes


def event_digest(event: StoredEvent) -> bytes:
    """SHA-256 of a format byte, the fixed-size fields, the lengths of the texts, and the texts.

    Fixed-size fields are event id, command id, time of recording in microseconds since 2000,
    version and schema version; texts are stream, type, tenant, metadata and data in UTF-8.
    """
    event_id, stream_id, version, type_, schema_version, tenant_id, command_id = event[:7]
    texts = [text.encode() for text in (stream_id, type_, tenant_id, event.metadata, event.data)]
    header = _HEADER.pack(
        event_id.bytes,
        command_id.bytes,
        microseconds(event.recorded_at),
        version,
        schema_version,
        *map(len, texts),
    )
    return hashlib.sha256(b"".join((_EVENT_FORMAT, header, *texts))).digest()


def microseconds(moment: datetime) -> int:
    """``moment`` as PostgreSQL stores it: microseconds since 2000-01-01 UTC."""
    return (moment - _EPOCH) // _MICROSECOND
