"""The read model of intents, written in the same transaction as their events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Json
from psycopg_pool import AsyncConnectionPool

from domain.database.paging import Page, check_limit, decode_cursor, page_of
from domain.database.pool import delete_in_steps, fetch
from domain.database.statements import load_statements
from domain.eventlog.models import InlineWrite

_SQL = load_statements(Path(__file__).with_name("intents.sql"))

#: The projection's name; its rows are made by `domain.projections.intent_row.row_of`.
INTENT_STATES: Final = "intent_states"

#: The longest wait between two attempts to recover an intent.
LONGEST_WAIT = timedelta(minutes=15)

_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class IntentRow:
    """An intent as clients see it.

    Attributes:
        version: the version of its stream when the row was written.
        user_input: the sentence; empty if only a program was submitted.
        text_sha256: `domain.intents.text.text_hash` of the sentence; None without one.
        expected_by: when the next event is due at the latest, if all goes well; None once the
            intent has ended.
        reused_from: the intent whose plan it ran; None if its program was submitted with it or
            written for it.
        details: the submission and the program, as JSON; None in a row of a release that did not
            write them, see `domain.application.details`.
        outcome: the outcome of a finished intent, as JSON.
    """

    id: UUID
    tenant_id: str
    version: int
    status: str
    user_input: str
    text_sha256: bytes | None
    language: str | None
    created_at: datetime
    updated_at: datetime
    expected_by: datetime | None
    completed_at: datetime | None
    reused_from: UUID | None
    details: dict[str, Any] | None
    outcome: dict[str, Any] | None

    def summary(self) -> dict[str, Any]:
        """The intent as the HTTP API lists it."""
        return {
            "id": self.id,
            "status": self.status,
            "text": self.user_input or None,
            "language": self.language,
            **(self.details or {}),
            "version": self.version,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "completed_at": self.completed_at,
        }

    def document(self) -> dict[str, Any]:
        """The `summary` with the outcome."""
        return {**self.summary(), "outcome": self.outcome}


_COLUMNS = tuple(field.name for field in fields(IntentRow))
_values = attrgetter(*_COLUMNS[:-2])
_documents = attrgetter(*_COLUMNS[-2:])

#: PostgreSQL's types of `columns_of`.
COLUMN_TYPES = (
    *("uuid", "text", "integer", "text", "text", "bytea", "text"),
    *("timestamptz", "timestamptz", "timestamptz", "timestamptz", "uuid", "json", "json"),
)


@dataclass(frozen=True, slots=True)
class StalledIntent:
    """An unfinished intent without progress; ``attempts`` includes this one."""

    intent_id: UUID
    tenant_id: str
    version: int
    attempts: int


def columns_of(row: IntentRow) -> tuple[Any, ...]:
    """The values of the row's columns as psycopg takes them."""
    return (*_values(row), *(None if each is None else Json(each) for each in _documents(row)))


def upsert(row: IntentRow) -> InlineWrite:
    """Write ``row`` unless the read model already has this version or a later one."""
    return InlineWrite(_SQL["upsert"], dict(zip(_COLUMNS, columns_of(row), strict=True)))


class IntentReads:
    """Queries on the read model."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def get(self, tenant_id: str, intent_id: UUID) -> IntentRow | None:
        """The tenant's intent; None if the tenant has none of this id."""
        rows = await fetch(self._pool, _SQL["get"], {"id": intent_id, "tenant_id": tenant_id})
        return IntentRow(*rows[0]) if rows else None

    async def list(
        self,
        tenant_id: str,
        *,
        status: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[IntentRow]:
        """A page of the tenant's intents, newest first.

        Args:
            tenant_id: whose intents.
            status: only intents of this status.
            created_after: only intents created at or after this time.
            created_before: only intents created before this time.
            limit: 1 to `paging.MAX_PAGE`.
            cursor: ``next_cursor`` of the page before.

        Raises:
            InvalidCursor: the cursor was not made by this system.
            ValueError: the limit is out of bounds.
        """
        moment, row_id = decode_cursor(cursor)
        params = {
            "tenant_id": tenant_id,
            "status": status,
            "before_created_at": moment,
            "before_id": row_id,
            "created_after": created_after or _EARLIEST,
            "created_before": created_before or _LATEST,
            "limit": check_limit(limit) + 1,
        }
        rows = await fetch(self._pool, _SQL["list" if status is None else "list_by_status"], params)
        return page_of([IntentRow(*row) for row in rows], limit, "created_at")

    async def versions(self, intent_ids: Iterable[UUID]) -> dict[UUID, tuple[int, str]]:
        """Version and status of each known intent of ``intent_ids``."""
        rows = await fetch(self._pool, _SQL["versions"], {"ids": [*intent_ids]})
        return {intent_id: (version, status) for intent_id, version, status in rows}

    async def latest_solved(self, tenant_id: str, text_sha256: bytes) -> UUID | None:
        """The tenant's last intent with this normalised text that its own program solved.

        Intents that reused a program are left out: it was made for another text, and was only
        judged to fit this one.
        """
        params = {"tenant_id": tenant_id, "text_sha256": text_sha256}
        rows = await fetch(self._pool, _SQL["latest_solved"], params)
        return next((intent_id for (intent_id,) in rows), None)

    async def claim_stalled(
        self, stalled_before: datetime, base: timedelta, limit: int
    ) -> Sequence[StalledIntent]:
        """Claim unfinished intents whose next event was due before ``stalled_before``.

        A claimed intent cannot be claimed again for ``base`` · 2^attempts, at most `LONGEST_WAIT`.
        The count restarts when the intent has a new event, or was found to be only waiting. Those
        that have been due for longest are claimed first.
        """
        params = {
            "stalled_before": stalled_before,
            "base": base,
            "longest": LONGEST_WAIT,
            "limit": check_limit(limit),
        }
        return [
            StalledIntent(*row) for row in await fetch(self._pool, _SQL["claim_stalled"], params)
        ]

    async def release_waiting(self, intent_ids: Sequence[UUID], base: timedelta) -> None:
        """Make claimed intents that only wait claimable after ``base`` · 2, without an attempt."""
        if intent_ids:
            await fetch(self._pool, _SQL["release_waiting"], {"ids": [*intent_ids], "base": base})

    async def forget_recovered(self) -> int:
        """Delete the claims of intents that have ended; returns their number."""
        return await delete_in_steps(self._pool, _SQL["forget_recovered"], {"limit": 1000})
