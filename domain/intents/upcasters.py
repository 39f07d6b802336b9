"""Brings events of earlier schema versions to the current one.

A change of an event's data gets a new schema version, an upcaster from the version before and a
recording of the new form in ``tests/recorded_events``. Upcasters are never edited or removed: the
log keeps what was recorded forever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: A pure function from the data of one version to the data of the next; it returns a new dict.
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

#: By event type and the version it starts from, each one version up.
Upcasters = Mapping[tuple[str, int], Upcaster]

#: Empty: all types are at their first version.
UPCASTERS: Upcasters = {}


class IncompleteUpcasters(ValueError):
    """The upcasters do not lead from every past version to the current one, or lead elsewhere."""


def check(current: Mapping[str, int], upcasters: Upcasters) -> None:
    """Verify that ``upcasters`` has exactly the steps from version 1 to each ``current`` version.

    Raises:
        IncompleteUpcasters: names the steps that are missing or not needed.
    """
    needed = {(type_, step) for type_, version in current.items() for step in range(1, version)}
    if missing := needed - upcasters.keys():
        raise IncompleteUpcasters(f"no upcaster for {_steps(missing)}")
    if unused := upcasters.keys() - needed:
        raise IncompleteUpcasters(f"no such past version: {_steps(unused)}")


def upcast(
    type_: str, version: int, target: int, data: dict[str, Any], upcasters: Upcasters
) -> dict[str, Any]:
    """``data`` of an event at schema ``version``, as it would be recorded at ``target``."""
    for step in range(version, target):
        data = upcasters[type_, step](data)
    return data


def _steps(steps: set[tuple[str, int]]) -> str:
    return ", ".join(f"{type_} {step} → {step + 1}" for type_, step in sorted(steps))
