"""Rejected messages as the operator of one tenant may see them."""

from __future__ import annotations

from pathlib import Path

from psycopg_pool import AsyncConnectionPool

from domain.database.paging import Page, check_limit, decode_cursor, page_of
from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.messaging.rejected import RejectedMessage

_SQL = load_statements(Path(__file__).with_name("rejected.sql"))


async def rejected_of_tenant(
    pool: AsyncConnectionPool, tenant_id: str, limit: int, cursor: str | None
) -> Page[RejectedMessage]:
    """A page of messages whose envelope names the tenant, the last seen first.

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
    rows = [RejectedMessage(*row) for row in await fetch(pool, _SQL["of_tenant"], params)]
    return page_of(rows, limit, "last_seen_at")
