"""Copies of live tables in a schema of their own, and their exchange for the live ones.

With the schema first on the search path, statements for the live tables write to the copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, sql

from domain.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("shadow.sql"))

PARKED = "parked_streams"


class Shadow:
    """Copies of ``tables``, and a table ``parked_streams`` for the time of the rebuild.

    Args:
        name: the projection's name, after which the schema is named.
        tables: unqualified names of tables in the schema public.
    """

    def __init__(self, name: str, tables: Sequence[str]) -> None:
        self.schema = f"qlp_rebuild_{name}"
        self._replaced = f"qlp_replaced_{name}"
        self._tables = tuple(tables)
        self._views: list[str] = []

    async def owners(self, connection: AsyncConnection[Any]) -> list[tuple[str, str]]:
        """Live tables that the connection's role does not own, with their owners."""
        return await _rows(connection, "owned", {"tables": self._qualified()})

    async def create(self, connection: AsyncConnection[Any]) -> None:
        """Create empty copies without indexes, with the owner and grants of the live tables."""
        await self._run(connection, "create_schema", schema=self.schema)
        await self._run(connection, "parked_table", schema=self.schema)
        for table in self._qualified():
            await self._ddl(connection, "table_ddl", {"schema": self.schema, "table": table})

    async def create_indexes(self, connection: AsyncConnection[Any]) -> None:
        """Create the indexes and keys of the live tables on the copies, unless they have them."""
        for table in self._qualified():
            await self._ddl(connection, "index_ddl", {"schema": self.schema, "table": table})

    async def analyze(self, connection: AsyncConnection[Any]) -> None:
        """Collect planner statistics of the copies."""
        for table in self._tables:
            await self._run(connection, "analyze_table", schema=self.schema, table=table)

    async def drop(self, connection: AsyncConnection[Any]) -> None:
        """Drop the copies, if there are any."""
        await self._run(connection, "drop_schema", schema=self.schema)

    async def use(self, connection: AsyncConnection[Any]) -> None:
        """Let this transaction find the copies instead of the live tables."""
        await self._run(connection, "search_shadow", schema=self.schema)

    async def lock_live(self, connection: AsyncConnection[Any]) -> None:
        """Lock the live tables exclusively until this transaction ends.

        Views are locked first, as their readers lock them first; replacing a view with itself locks
        it.
        """
        await self._run(connection, "search_public")
        rows = await _rows(connection, "view_ddl", {"tables": self._qualified()})
        self._views = [statement for (statement,) in rows]
        await self._replace_views(connection)
        for table in sorted(self._tables):
            await self._run(connection, "lock_table", table=table)

    async def exchange(self, connection: AsyncConnection[Any]) -> None:
        """Replace the locked live tables by the copies, and drop the old tables.

        They are not kept: nothing would update them, and data that is erased from the log would
        remain in them.
        """
        await self._run(connection, "search_public")
        await self._run(connection, "create_schema", schema=self._replaced)
        for table in self._tables:
            await self._move(connection, table, "public", self._replaced)
            await self._move(connection, table, self.schema, "public")
        await self._replace_views(connection)
        for table in self._tables:
            await self._run(connection, "drop_table", schema=self._replaced, table=table)
        await self._run(connection, "drop_table", schema=self.schema, table=PARKED)
        await self._run(connection, "drop_empty_schema", schema=self._replaced)
        await self._run(connection, "drop_empty_schema", schema=self.schema)

    async def _move(
        self, connection: AsyncConnection[Any], table: str, origin: str, schema: str
    ) -> None:
        await self._run(connection, "move_table", origin=origin, table=table, schema=schema)

    async def _replace_views(self, connection: AsyncConnection[Any]) -> None:
        for statement in self._views:
            await connection.execute(statement.encode())

    def _qualified(self) -> list[str]:
        return [f"public.{table}" for table in self._tables]

    @staticmethod
    async def _ddl(
        connection: AsyncConnection[Any], statement: str, params: dict[str, Any]
    ) -> None:
        for (generated,) in await _rows(connection, statement, params):
            await connection.execute(generated.encode())

    @staticmethod
    async def _run(connection: AsyncConnection[Any], statement: str, **names: str) -> None:
        identifiers = {key: sql.Identifier(name) for key, name in names.items()}
        await connection.execute(sql.SQL(_SQL[statement].decode()).format(**identifiers))


async def _rows(
    connection: AsyncConnection[Any], statement: str, params: dict[str, Any]
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(_SQL[statement], params)).fetchall()
