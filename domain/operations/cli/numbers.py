"""Numbers as options: written in the digits 0 to 9, and within bounds.

typer would take whatever Python does: also ``1_0`` for ten, signs, and blanks around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import typer

_WHOLE = re.compile(r"[0-9]{1,15}")
_DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")


def whole(low: int, high: int, *, help: str, metavar: str = "N") -> Any:  # noqa: ANN401 as typer has it
    """An option that takes a whole number from ``low`` to ``high``."""
    return _option(int, _WHOLE, f"a whole number from {low:,} to {high:,}", low, high)(
        metavar=metavar, help=f"{help}  [{low:,} to {high:,}]"
    )


def decimal(low: int, high: int, *, help: str, metavar: str = "N") -> Any:  # noqa: ANN401 as typer has it
    """An option that takes a number from ``low`` to ``high``, such as 2.5."""
    return _option(float, _DECIMAL, f"a number from {low:,} to {high:,}", low, high)(
        metavar=metavar, help=f"{help}  [{low:,} to {high:,}]"
    )


def _option(
    kind: Callable[[str], float], form: re.Pattern[str], rule: str, low: int, high: int
) -> Callable[..., Any]:
    def parse(value: str | float) -> float:
        if not isinstance(value, str):
            return value  # the default
        if not (form.fullmatch(value) and low <= kind(value) <= high):
            raise typer.BadParameter(f"{value[:40]!r} is not {rule}.")
        return kind(value)

    return partial(typer.Option, parser=parse)
