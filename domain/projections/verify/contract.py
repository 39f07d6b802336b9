"""The result of comparing live rows with the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Differences that are returned; all are counted.
MAX_SHOWN = 20


class CannotCompare(ValueError):
    """The live rows include events that this release cannot read."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs from the log.

    Attributes:
        key: the row's key, by column.
        folded: the values by the log, in the columns that differ; None: there should be no row.
        live: the row's values in these columns; None: there is no row.
    """

    table: str
    key: dict[str, Any]
    folded: dict[str, Any] | None
    live: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a comparison.

    Attributes:
        compared: number of rows, live or from the log.
        differing: number of rows that differ.
        differences: the first `MAX_SHOWN` of them.
        unfoldable: number of streams that this release cannot fold; rows of such intents were not
            compared.
    """

    projection: str
    compared: int
    differing: int
    differences: list[Difference]
    unfoldable: int = 0


def difference(
    table: str,
    key: dict[str, Any],
    folded: dict[str, Any] | None,
    live: dict[str, Any] | None,
) -> Difference | None:
    """The difference between two versions of a row; None if they are equal."""
    if folded == live:
        return None
    if folded is None or live is None:
        return Difference(table, key, folded, live)
    differing = [name for name in folded if folded[name] != live[name]]
    return Difference(
        table,
        key,
        {name: folded[name] for name in differing},
        {name: live[name] for name in differing},
    )
