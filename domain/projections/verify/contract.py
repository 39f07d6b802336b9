"""What a comparison of live rows with the log finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Differences that are shown; all are counted.
MAX_SHOWN = 20


class CannotCompare(ValueError):
    """The live rows hold what this release cannot read, among all else that they add up."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not what the log says.

    Attributes:
        key: of the row, by column.
        folded: what the log says, by column, where the two differ; None: there should be no row.
        live: what the row says in these columns; None: there is no row.
    """

    table: str
    key: dict[str, Any]
    folded: dict[str, Any] | None
    live: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a comparison.

    Attributes:
        compared: rows, live or from the log.
        differing: rows that differ.
        differences: the first `MAX_SHOWN` of them.
        unfoldable: streams that this release cannot fold; of intents their rows were left out.
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
    """What differs between two forms of a row; None if nothing does."""
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
