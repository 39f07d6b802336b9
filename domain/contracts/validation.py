"""Says what is wrong with an input in words for its sender, and constrains text by patterns.

Senders of JSON know objects, lists and their own field names, but not our types and patterns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import AfterValidator, ValidationError
from pydantic_core import ErrorDetails

#: Characters shown of each name in a field's path: senders choose the names, of any length.
_SHOWN_CHARACTERS = 64

#: In place of messages in which pydantic names Python types.
_IN_JSON = {
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "tuple_type": "must be a list",
}

_LENGTH = re.compile(r"\w+ should have (at (?:most|least) \d+ \w+)(?: after validation, not .*)?")


def matching(pattern: str, rule: str) -> AfterValidator:
    """A constraint on text: all of it must match ``pattern``.

    Args:
        pattern: a regular expression. Text may have any length, so the pattern must not backtrack.
        rule: the error message, which says the same in words; begins with "must".
    """
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def describe(error: ValidationError, within: str = "") -> str:
    """The first problem of a pydantic error as ``field: what is wrong``, without the input.

    Args:
        error: what pydantic raised.
        within: the path of the validated value in the input; empty if it was the whole input.
    """
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(part for part in (within, *location(first["loc"])) if part)
    return f"{field or 'body'}: {detail(first)}"


def location(parts: Sequence[str | int]) -> list[str]:
    """The names and indexes of a field's path, each cut to 64 characters."""
    shown = [str(part) for part in parts if part != "[key]"]
    return [
        part if len(part) <= _SHOWN_CHARACTERS else part[: _SHOWN_CHARACTERS - 1] + "…"
        for part in shown
    ]


def detail(problem: ErrorDetails) -> str:
    """What is wrong with one field."""
    message = _IN_JSON.get(problem["type"])
    return message or _LENGTH.sub(r"must have \1", problem["msg"]).removeprefix("Value error, ")
