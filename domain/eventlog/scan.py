"""Reads stored events, of the whole log in its order or of one stream, with filters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.digests import StoredEvent
from domain.eventlog.heads import Heads

_SQL = load_statements(Path(__file__).with_name("scan.sql"))

#: Events, of all tenants and types, that one query reads.
PART = 2000


class InvalidPattern(ValueError):
    """A pattern for event types cannot be used."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects events; all, if nothing is set.

    Attributes:
        tenant_id: only this tenant's events.
        types: only types that match one of these patterns: ``*`` any text, ``?`` one character.
    """

    tenant_id: str | None = None
    types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.types:
            if not pattern or "\x00" in pattern:
                raise InvalidPattern("type: must not be empty; for example 'IntentF*'")

    def params(self) -> dict[str, object]:
        """Parameters of the statements in ``scan.sql``."""
        types = [_like(pattern) for pattern in self.types] or None
        return {"tenant_id": self.tenant_id, "types": types}


class LogScanner:
    """Reads the log, or one stream."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def parts(
        self, after: Heads, to: Heads, wanted: Filter, size: int = PART
    ) -> AsyncIterator[Sequence[StoredEvent]]:
        """The selected events between two places, in parts of ``size`` events before filtering."""
        while not after.reaches(to):
            next_ = after.step(to, size)
            yield await self._between(after, next_, wanted)
            after = next_

    async def _between(self, after: Heads, to: Heads, wanted: Filter) -> Sequence[StoredEvent]:
        """The selected events between two places, by lane, and in each lane in its order."""
        params = {**after.range_to(to), **wanted.params()}
        return [StoredEvent(*row) for row in await fetch(self._pool, _SQL["between"], params)]

    async def stream(
        self, stream_id: str, after_version: int, wanted: Filter
    ) -> Sequence[StoredEvent]:
        """The next selected events of a stream, at most `PART`."""
        params = {"stream_id": stream_id, "after_version": after_version, "limit": PART}
        rows = await fetch(self._pool, _SQL["stream"], {**params, **wanted.params()})
        return [StoredEvent(*row) for row in rows]

    async def stream_version(self, stream_id: str) -> int:
        """The version of a stream's last event; 0 if it has none."""
        [[version]] = await fetch(self._pool, _SQL["stream_version"], {"stream_id": stream_id})
        return int(version)


def _like(pattern: str) -> str:
    """A glob as an SQL ``like`` pattern."""
    escaped = pattern.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return escaped.replace("*", "%").replace("?", "_")
