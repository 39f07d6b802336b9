"""Which intents an operation is for: by id, or by a closed list of conditions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.errors import OperationError
from domain.intents.state import Status
from domain.operations.time_travel import parse_time

_SQL = load_statements(Path(__file__).with_name("selection.sql"))

#: Intents that one operation takes on at most.
MAX_SELECTED = 100_000

_MAX_VALUE = 200
_FIELDS = ("status", "tenant", "code", "language", "since", "until")
_PREVIEWED = 5


class ForeignTenant(OperationError):
    """The caller may not operate on the tenant that was named."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that all must hold; None: any.

    Attributes:
        code: of the outcome's error, for example ``sandbox_unavailable``.
        since, until: bounds of the submission: then or later, and earlier.
    """

    ids: tuple[UUID, ...] | None = None
    status: str | None = None
    tenant: str | None = None
    code: str | None = None
    language: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def of_tenant(self, tenant_id: str) -> Selection:
        """The same within one tenant.

        Raises:
            ForeignTenant: it names another tenant.
        """
        if self.tenant not in (None, tenant_id):
            raise ForeignTenant(f"tenant: this key operates on tenant {tenant_id} only")
        return replace(self, tenant=tenant_id)


@dataclass(frozen=True, slots=True)
class Selected:
    """An intent as the read model has it."""

    intent_id: UUID
    tenant_id: str
    status: str
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Preview:
    """What an operation would take on.

    Attributes:
        by_status: how many match, by status.
        selected: the oldest of them, up to the limit.
        unknown: ids that were asked for and do not match.
    """

    by_status: dict[str, int]
    selected: list[Selected]
    unknown: list[UUID]

    @property
    def matching(self) -> int:
        """How many match, beyond the limit too."""
        return sum(self.by_status.values())

    @property
    def first(self) -> list[Selected]:
        """A few to look at."""
        return self.selected[:_PREVIEWED]

    def summary(self) -> dict[str, Any]:
        """For people and scripts, without the whole list."""
        return {
            "matching": self.matching,
            "selected": len(self.selected),
            "by_status": self.by_status,
            "first": self.first,
            "unknown": self.unknown,
        }


def parse_where(text: str) -> Selection:
    """A selection out of ``field=value`` conditions, separated by commas.

    Raises:
        OperationError: names the condition that is wrong, and what there is.
    """
    values: dict[str, str] = {}
    for condition in text.split(","):
        name, equals, value = (part.strip() for part in condition.partition("="))
        if name not in _FIELDS:
            raise OperationError(f"where: there is no field {name[:80]!r}, only {_listed(_FIELDS)}")
        if not equals or not 1 <= len(value) <= _MAX_VALUE or "\x00" in value:
            raise OperationError(
                f"where: {name} needs a value of 1 to {_MAX_VALUE} characters: {name}=…"
            )
        if name in values:
            raise OperationError(f"where: {name} is there twice; keep one of them")
        values[name] = value
    if values.get("status", "failed") not in list(Status):
        raise OperationError(
            f"where: there is no status {values['status'][:80]!r}, only {_listed(Status)}"
        )
    return Selection(
        status=values.get("status"),
        tenant=values.get("tenant"),
        code=values.get("code"),
        language=values.get("language"),
        since=_bound("since", values),
        until=_bound("until", values),
    )


def _bound(name: str, values: dict[str, str]) -> datetime | None:
    return parse_time(values[name], f"where: {name}") if name in values else None


def selection_of(ids: Iterable[UUID], where: str | None) -> Selection:
    """The selection by ids or by conditions.

    Raises:
        OperationError: both are given, or none, or too many ids.
    """
    chosen = tuple(dict.fromkeys(ids))
    if bool(chosen) == (where is not None):
        raise OperationError("name the intents, or describe them with where: one of the two")
    if len(chosen) > MAX_SELECTED:
        raise OperationError(f"ids: {len(chosen)}, allowed are {MAX_SELECTED}")
    return Selection(ids=chosen) if where is None else parse_where(where)


async def preview(pool: AsyncConnectionPool, selection: Selection, limit: int) -> Preview:
    """Look at what ``selection`` matches now, oldest first.

    Raises:
        OperationError: the limit is out of bounds.
    """
    if not 1 <= limit <= MAX_SELECTED:
        raise OperationError(f"limit: {limit}, allowed are 1 to {MAX_SELECTED}")
    params = {
        "ids": None if selection.ids is None else [*selection.ids],
        "status": selection.status,
        "tenant": selection.tenant,
        "language": selection.language,
        "code_marker": None if selection.code is None else _code_marker(selection.code),
        "since": selection.since,
        "until": selection.until,
    }
    by_status = await fetch(pool, _SQL["by_status"], params)
    rows = await fetch(pool, _SQL["select"], params | {"limit": limit})
    selected = [Selected(*row) for row in rows]
    found = {item.intent_id for item in selected}
    whole = len(selected) < limit or selection.ids is None
    unknown = [each for each in selection.ids or () if whole and each not in found]
    counts = {str(status): int(count) for status, count in by_status}
    return Preview(counts, selected, unknown)


def _code_marker(code: str) -> str:
    """How the outcome's JSON spells an error code.

    Searched for in the text, because PostgreSQL refuses to take apart JSON that holds ``\\u0000``,
    which a program may print. A quote inside of a string is escaped, so no output can imitate it.
    """
    return '"error":' + orjson.dumps({"code": code}).decode()[:-1]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
