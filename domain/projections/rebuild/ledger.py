"""Records how far a rebuild has come, so that an interrupted one can continue."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from domain.database.statements import load_statements
from domain.eventlog.heads import Heads
from domain.projections.rebuild.contract import Position

_SQL = load_statements(Path(__file__).with_name("ledger.sql"))


class Ledger:
    """The row of one projection's rebuild, written in the caller's transactions.

    A rebuild continues only on the same basis: version of the code and schema.

    Args:
        name: the projection's name.
        version: the version of its code.
    """

    def __init__(self, name: str, version: int) -> None:
        self._name = name
        self._version = version
        self.total = 0

    async def begin(self, connection: AsyncConnection[Any], position: Position) -> None:
        """Start a new row at ``position``, in place of an earlier rebuild's."""
        await self.forget(connection)
        params = {**self._columns(position), "basis": await self._basis(connection)}
        await connection.execute(_SQL["begin"], params)
        await self.load(connection)

    async def load(self, connection: AsyncConnection[Any]) -> Position | None:
        """The saved position; None if there is no rebuild on this basis.

        Sets ``total``, the number of events in the log when it began.
        """
        rows = await connection.execute(_SQL["load"], {"name": self._name})
        row = await rows.fetchone()
        if row is None or row[0] != await self._basis(connection):
            return None
        _, phase, lanes, heads, events, self.total = row
        return Position(phase, lanes, Heads(tuple(heads)), events)

    async def take_over(self, connection: AsyncConnection[Any]) -> UUID:
        """Begin a run, which its processes name: those that an earlier one has left are refused."""
        await connection.execute(_SQL["take_over"], {"name": self._name})
        rows = await connection.execute(_SQL["new_run"], {"name": self._name})
        [(run,)] = await rows.fetchall()
        return UUID(str(run))

    async def save(self, connection: AsyncConnection[Any], position: Position) -> None:
        """Save ``position``."""
        await connection.execute(_SQL["save"], self._columns(position))

    async def forget(self, connection: AsyncConnection[Any]) -> None:
        """Delete the row."""
        await connection.execute(_SQL["forget"], {"name": self._name})

    async def events(self, connection: AsyncConnection[Any]) -> int:
        """The number of events in the log."""
        [(events,)] = await (await connection.execute(_SQL["events"])).fetchall()
        return int(events)

    async def _basis(self, connection: AsyncConnection[Any]) -> str:
        [(schema,)] = await (await connection.execute(_SQL["schema"])).fetchall()
        return f"code {self._version}, schema {schema}, by lanes"

    def _columns(self, position: Position) -> dict[str, Any]:
        return {
            "name": self._name,
            "phase": position.phase,
            "lanes": position.lanes,
            "heads": [*position.heads.positions],
            "events": position.events,
        }
