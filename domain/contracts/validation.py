"""Says what is wrong with an input in words for its sender, and constrains text by patterns.

Senders of JSON know objects, lists and their own field names, but not our types and patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import AfterValidator, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

#: Characters shown of each name in a field's path: senders choose the names, of any length.
_SHOWN_CHARACTERS = 64

#: What is said in place of pydantic's messages, with names from the context of the error. Never the
#: input.
_SENTENCES = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "enum": "must be {expected}",
    "extra_forbidden": "is not a field here",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number, not text or anything else",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number, not text or anything else",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "must be given",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "uuid_parsing": "must be a UUID, such as 0190163d-8694-739b-aea5-966c26f8ad91",
    "uuid_type": "must be a UUID, such as 0190163d-8694-739b-aea5-966c26f8ad91",
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
    first = error.errors(include_input=False, include_url=False)[0]
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
    """What is wrong with one field, without the input."""
    if sentence := _SENTENCES.get(problem["type"]):
        return sentence.format_map(problem.get("ctx", {}))
    return _LENGTH.sub(r"must have \1", problem["msg"]).removeprefix("Value error, ")


def no_other_fields(names: Iterable[str]) -> CoreSchema:
    """A schema for the fields that an object does not have: refuses them, and says which it has."""
    known = ", ".join(sorted(names))

    def refuse(_: object) -> None:
        raise PydanticCustomError(
            "unknown_field", "is not a field here; there are: {known}", {"known": known}
        )

    return core_schema.no_info_before_validator_function(refuse, core_schema.any_schema())
