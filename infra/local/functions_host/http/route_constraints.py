"""Inline route constraints of ASP.NET: ``int``, ``guid``, ``length(2,8)`` and so on.

Source: https://learn.microsoft.com/aspnet/core/fundamentals/routing#route-constraints
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

Predicate = Callable[[str], bool]

_GUID = re.compile(
    r"(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}"
    r"|\([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\))\Z",
    re.IGNORECASE,
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\Z")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?\Z")
_CALL = re.compile(r"([a-z]+)(?:\((.*)\))?\Z", re.IGNORECASE | re.DOTALL)


def _integer(bits: int) -> Predicate:
    bound = 1 << (bits - 1)
    return lambda text: bool(_INTEGER.match(text)) and -bound <= int(text) < bound


def _is_datetime(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_PLAIN: dict[str, Predicate] = {
    "int": _integer(32),
    "long": _integer(64),
    "bool": lambda text: text.lower() in {"true", "false"},
    "guid": lambda text: bool(_GUID.match(text)),
    "alpha": lambda text: text.isascii() and text.isalpha(),
    "decimal": lambda text: bool(_DECIMAL.match(text)),
    "double": lambda text: bool(_FLOAT.match(text)),
    "float": lambda text: bool(_FLOAT.match(text)),
    "datetime": _is_datetime,
    "required": bool,
}


def parse(text: str) -> Predicate:
    """Return the check of a constraint such as ``int`` or ``range(1,9)``; ValueError if unknown."""
    match = _CALL.match(text.strip())
    name = match[1].lower() if match else ""
    argument = match[2] if match else None
    if argument is None:
        if name not in _PLAIN:
            raise ValueError(f"unknown route constraint {text!r}; known: {', '.join(_PLAIN)}")
        return _PLAIN[name]
    if name == "regex":
        pattern = re.compile(argument, re.IGNORECASE)
        return lambda value: bool(pattern.search(value))
    return _numeric(name, [int(part) for part in argument.split(",")], text)


def _numeric(name: str, numbers: list[int], text: str) -> Predicate:
    first, last = numbers[0], numbers[-1]
    whole = _PLAIN["long"]
    if len(numbers) == 1 and name == "minlength":
        return lambda value: len(value) >= first
    if len(numbers) == 1 and name == "maxlength":
        return lambda value: len(value) <= first
    if len(numbers) <= 2 and name == "length":
        return lambda value: first <= len(value) <= last
    if len(numbers) == 1 and name == "min":
        return lambda value: whole(value) and int(value) >= first
    if len(numbers) == 1 and name == "max":
        return lambda value: whole(value) and int(value) <= first
    if len(numbers) == 2 and name == "range":
        return lambda value: whole(value) and first <= int(value) <= last
    raise ValueError(f"unknown route constraint {text!r}")
