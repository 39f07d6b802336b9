"""Messages that can never be processed, kept with the reason for an operator to see."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid5

from psycopg_pool import AsyncConnectionPool

from domain.database.paging import Page, check_limit, decode_cursor, page_of
from domain.database.pool import delete_in_steps, fetch
from domain.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("rejected.sql"))
_NAMESPACE = UUID("5d1f6a3c-7c0e-5b7f-9a55-1f0c6a2f9e21")

MAX_TEXT = 2_000
MAX_BODY_BYTES = 1024**2

_PURGED_AT_ONCE = 1000

#: Reasons of messages that another release may be able to process: a stream that this one cannot
#: read, a result that it does not know.
UNREADABLE_STREAM, NEWER_RESULT = HELD = ("UnreadableStream", "NewerResult")


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A message that was taken off its queue unprocessed.

    Attributes:
        id: derived from source and body.
        source: the entity it came from.
        reason: a code, for programs.
        description: for people: which field is wrong and what would be right.
        body: as received, up to `MAX_BODY_BYTES`.
        deliveries: how often this content has come in.
    """

    id: UUID
    source: str
    tenant_id: str | None
    reason: str
    description: str
    body: bytes
    message_id: str | None
    traceparent: str | None
    deliveries: int
    first_seen_at: datetime
    last_seen_at: datetime


class RejectedMessages:
    """The store of rejected messages."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def record(
        self,
        *,
        source: str,
        tenant_id: str | None,
        reason: str,
        description: str,
        body: bytes,
        message_id: str | None,
        traceparent: str | None,
    ) -> UUID:
        """Record a message; the same content again only counts as a further delivery.

        Returns:
            the id under which it can be read.
        """
        rejected_id = uuid5(_NAMESPACE, f"{source}\n{hashlib.sha256(body).hexdigest()}")
        await fetch(
            self._pool,
            _SQL["record"],
            {
                "id": rejected_id,
                "source": _storable(source),
                "tenant_id": _storable(tenant_id),
                "reason": _storable(reason),
                "description": _storable(description),
                "body": body[:MAX_BODY_BYTES],
                "message_id": _storable(message_id),
                "traceparent": _storable(traceparent),
            },
        )
        return rejected_id

    async def list(
        self, limit: int = 50, cursor: str | None = None, tenant_id: str | None = None
    ) -> Page[RejectedMessage]:
        """A page of rejected messages, the last seen first.

        Args:
            limit: at most this many.
            cursor: where the page before ended.
            tenant_id: only messages whose envelope names this tenant; None: all.

        Raises:
            InvalidCursor: the cursor is not one of ours.
        """
        moment, row_id = decode_cursor(cursor)
        params = {
            "tenant_id": tenant_id,
            "before_last_seen_at": moment,
            "before_id": row_id,
            "limit": check_limit(limit) + 1,
        }
        rows = [RejectedMessage(*row) for row in await fetch(self._pool, _SQL["list"], params)]
        return page_of(rows, limit, "last_seen_at")

    async def get(self, rejected_id: UUID) -> RejectedMessage | None:
        """One rejected message; None if there is none of this id."""
        rows = await fetch(self._pool, _SQL["get"], {"id": rejected_id})
        return RejectedMessage(*rows[0]) if rows else None

    async def held(self, without: Sequence[UUID], limit: int) -> Sequence[RejectedMessage]:
        """Messages that another release may be able to process, the longest held first.

        Args:
            without: ids to leave out.
            limit: the most to return.
        """
        params = {"reasons": [*HELD], "without": [*without], "limit": check_limit(limit)}
        return [RejectedMessage(*row) for row in await fetch(self._pool, _SQL["held"], params)]

    async def release(self, message: RejectedMessage) -> bool:
        """Delete a message that was processed; False if it has come in again since it was read."""
        params = {"id": message.id, "deliveries": message.deliveries}
        return bool(await fetch(self._pool, _SQL["release"], params))

    async def count_older(self, before: datetime) -> int:
        """How many were last seen before ``before``."""
        [(count,)] = await fetch(self._pool, _SQL["count_older"], {"before": before})
        return int(count)

    async def purge(self, before: datetime) -> int:
        """Delete those last seen before ``before``; how many they were."""
        params = {"before": before, "limit": _PURGED_AT_ONCE}
        return await delete_in_steps(self._pool, _SQL["purge"], params)


def _storable(text: str | None) -> str | None:
    """Text from an untrusted message as PostgreSQL can hold it: no NUL, no lone surrogate."""
    if text is None:
        return None
    shown = text[:MAX_TEXT].replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return shown.encode(errors="replace").decode()
