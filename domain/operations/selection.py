"""Which intents an operation is for: by id, or by conditions."""

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

#: Most intents that one operation may select.
MAX_SELECTED = 100_000

_MAX_VALUE = 200
_FIELDS = ("status", "tenant", "code", "language", "since", "until")
_PREVIEWED = 5


class ForeignTenant(OperationError):
    """The caller may not operate on the tenant that the conditions name."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that must all hold; None: any value.

    Attributes:
        code: the error code of the outcome, for example ``sandbox_unavailable``.
        since, until: submitted at ``since`` or later, and before ``until``.
    """

    ids: tuple[UUID, ...] | None = None
    status: str | None = None
    tenant: str | None = None
    code: str | None = None
    language: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def of_tenant(self, tenant_id: str) -> Selection:
        """The same selection within one tenant.

        Raises:
            ForeignTenant: the selection names another tenant.
        """
        if self.tenant not in (None, tenant_id):
            raise ForeignTenant(f"tenant: this key may only operate on tenant {tenant_id}")
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
    """What an operation would work on.

    Attributes:
        by_status: the number of matching intents, by status.
        selected: the oldest of them, up to the limit.
        unknown: ids that were asked for, but do not match.
    """

    by_status: dict[str, int]
    selected: list[Selected]
    unknown: list[UUID]

    @property
    def matching(self) -> int:
        """How many intents match, those beyond the limit included."""
        return sum(self.by_status.values())

    @property
    def first(self) -> list[Selected]:
        """A few of the selected intents, to be shown."""
        return self.selected[:_PREVIEWED]

    def summary(self) -> dict[str, Any]:
        """A summary for people and scripts, without the whole list."""
        return {
            "matching": self.matching,
            "selected": len(self.selected),
            "by_status": self.by_status,
            "first": self.first,
            "unknown": self.unknown,
        }


def parse_where(text: str) -> Selection:
    """The selection that ``field=value`` conditions, separated by commas, describe.

    Raises:
        OperationError: a condition is wrong; the message names it, and what is possible.
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
            raise OperationError(f"where: {name} is given twice; give it once")
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
    """The selection by ids, or by conditions.

    Raises:
        OperationError: both are given, or neither, or too many ids.
    """
    chosen = tuple(dict.fromkeys(ids))
    if bool(chosen) == (where is not None):
        raise OperationError("give either ids of intents or where conditions, and not both")
    if len(chosen) > MAX_SELECTED:
        raise OperationError(f"ids: {len(chosen)} were given, at most {MAX_SELECTED} are allowed")
    return Selection(ids=chosen) if where is None else parse_where(where)


async def preview(pool: AsyncConnectionPool, selection: Selection, limit: int) -> Preview:
    """What ``selection`` matches now, oldest first.

    Raises:
        OperationError: the limit is out of bounds.
    """
    if not 1 <= limit <= MAX_SELECTED:
        raise OperationError(f"limit: {limit} is not from 1 to {MAX_SELECTED}")
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
    """An error code as it is written in the outcome's JSON.

    The text is searched for it, because PostgreSQL refuses to parse JSON with ``\\u0000``, which a
    program may print. Quotes within strings are escaped, so no output can imitate it.
    """
    return '"error":' + orjson.dumps({"code": code}).decode()[:-1]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
