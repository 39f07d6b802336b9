"""Reads untrusted JSON: its size is limited before it is parsed, and it has only one meaning.

The values of a body are counted by its punctuation, at the speed of a byte search, before it is
parsed. So every body costs about the same, and what is validated afterwards is small. JSON that
parsers understand differently is refused: duplicate keys, NaN and infinity. Nothing is converted:
``true`` and ``"1"`` are not numbers, and a number is not a time. What is equal in JSON is equal
here: ``5.0`` is 5, because some libraries have no integers; and null means that an optional field
is left out, as most libraries write it.

Source: https://www.rfc-editor.org/rfc/rfc8259, sections 4 and 6; https://www.rfc-editor.org/rfc/rfc7493
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from math import isfinite
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import (
    CoreSchema,
    InitErrorDetails,
    PydanticCustomError,
    core_schema,
    from_json,
    to_json,
)

#: Default limits of values and keys, and of nested lists and objects. The largest content, job or
#: result has less than half as many.
MAX_NODES = 2_000
MAX_DEPTH = 16

T = TypeVar("T")

_SHOWN_CHARACTERS = 64

# UTF-32 first: its little-endian mark begins with UTF-16's.
_FIRST_BYTES = (
    (codecs.BOM_UTF8, "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    (b"\x1f\x8b", "gzip"),
)


class InvalidJson(ValueError):
    """The text is not JSON, or not acceptable JSON; the message says what is wrong with it."""


class TooMuchJson(InvalidJson):
    """The text has more values, or is nested deeper, than is allowed."""


def other_encoding(body: bytes) -> str | None:
    """The name of the body's encoding if it is recognisably not UTF-8; else None.

    JSON begins with two ASCII characters: if one of the first four bytes is NUL, each character
    takes two or four bytes (RFC 4627, section 3).
    """
    for begins, name in _FIRST_BYTES:
        if body.startswith(begins):
            return name
    begin = body[:4]
    zeros = begin.count(0)
    if not zeros or not begin.replace(b"\0", b" ").isascii():
        return None
    return "UTF-32" if zeros > 2 else "UTF-16"


_ANY_TIME = TypeAdapter(AwareDatetime)
_BEGINS_WITH_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _time(value: object) -> datetime:
    """The time in a text; a number, which pydantic would accept, is refused."""
    if isinstance(value, datetime) or (isinstance(value, str) and _BEGINS_WITH_DATE.match(value)):
        with suppress(ValidationError):
            return _ANY_TIME.validate_python(value)
    raise ValueError("must be a time with its timezone, such as 2026-03-01T12:00:00Z")


#: A time with its offset from UTC.
Time = Annotated[datetime, AwareDatetime, BeforeValidator(_time)]


@dataclass(frozen=True, slots=True)
class NullIs:
    """Marks a field that may be null; null stands for the default, as if it were left out."""

    default: object

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Called by pydantic."""
        return null_is(handler(source), lambda: self.default)


def null_is(schema: CoreSchema, default: Callable[[], object]) -> CoreSchema:
    """A schema that accepts what ``schema`` does, and null in place of ``default``'s result."""
    return core_schema.no_info_after_validator_function(
        lambda value: default() if value is None else value, core_schema.nullable_schema(schema)
    )


def read_as(
    type_: type[T],
    body: bytes,
    *,
    max_nodes: int = MAX_NODES,
    max_depth: int = MAX_DEPTH,
    context: Mapping[str, object] | None = None,
    ignore_unknown: bool = False,
) -> T:
    """The value of a JSON text as ``type_``, without converting scalars from one type to another.

    Args:
        type_: anything pydantic can validate.
        body: as for `read_json`.
        max_nodes: as for `read_json`.
        max_depth: as for `read_json`.
        context: for the validators of ``type_``.
        ignore_unknown: drop fields that ``type_`` does not have instead of refusing them; for
            senders that are parts of this system, perhaps of a later release.

    Raises:
        pydantic.ValidationError: not acceptable JSON, or not a ``type_``; names each wrong field.
    """
    try:
        value = read_json(body, max_nodes=max_nodes, max_depth=max_depth)
    except InvalidJson as error:
        # The reason may quote braces of the input, which would be placeholders in the template.
        problem = PydanticCustomError("json_invalid", "{reason}", {"reason": str(error)})
        details = InitErrorDetails(type=problem, loc=(), input=None)
        raise ValidationError.from_exception_data(type_.__name__, [details]) from None
    extra: Literal["ignore"] | None = "ignore" if ignore_unknown else None
    adapter = _adapter(type_)
    try:
        return adapter.validate_json(body, strict=True, context=context, extra=extra)
    except ValidationError:
        if not _has_whole(value):
            raise
    whole = to_json(_whole(value))
    return adapter.validate_json(whole, strict=True, context=context, extra=extra)


#: Below this, each double stands for one integer only (RFC 7493, section 2.2).
_MOST_WHOLE = 2**53


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) < _MOST_WHOLE


def _has_whole(value: object) -> bool:
    """Whether there are integers written as 5.0 or 1e3."""
    if isinstance(value, dict | list):
        return any(map(_has_whole, value.values() if isinstance(value, dict) else value))
    return _is_whole(value)


def _whole(value: Any) -> object:  # noqa: ANN401 JSON
    """The same JSON with such numbers as integers."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if _is_whole(value) else value


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(type_: type[T]) -> TypeAdapter[T]:
    """Pydantic's adapter of a type, made when it is first needed."""
    known = _ADAPTERS.get(type_)
    if known is None:
        known = _ADAPTERS[type_] = TypeAdapter(type_)
    return known


def read_json(body: bytes, *, max_nodes: int, max_depth: int) -> object:
    """The value of a JSON text in UTF-8. The caller has checked its size.

    Args:
        body: the text.
        max_nodes: most values and keys together, at all depths; an empty list or object counts as
            two.
        max_depth: most lists and objects nested in each other.

    Raises:
        InvalidJson: not JSON, too many or too deeply nested values, a duplicate key, a number
            beyond the range of a double, or a lone surrogate.
    """
    punctuation = _punctuation(body, max_nodes)
    members = punctuation.count(b":")
    nodes = 1 + members + sum(map(punctuation.count, (b",", b"[", b"{")))
    if nodes > max_nodes:
        raise _too_many(max_nodes)
    try:
        value: object = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidJson(_why_not(body, error)) from None
    if _keys(value, max_depth) != members:
        raise InvalidJson(f"the key {_twice(body)!r} occurs twice in one object")
    return value


_TOO_LARGE = "a number in it is too large"

_HALF_A_PAIR = (
    "a text in it holds half of a surrogate pair, an escape from \\ud800 to \\udfff alone"
)

#: What the parser says of JSON that it does not read, and what is said instead.
_NOT_READ = (
    ("number out of range", _TOO_LARGE),
    ("end of hex escape", _HALF_A_PAIR),
    ("lone leading surrogate", _HALF_A_PAIR),
)


def _why_not(body: bytes, error: ValueError) -> str:
    """Why a text is not JSON, of which the parser raised ``error``."""
    if not body.strip():
        return "it is empty"
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return f"it is not UTF-8: byte {wrong.start + 1} is invalid"
    return next((why for sign, why in _NOT_READ if sign in str(error)), f"it is not JSON: {error}")


def _punctuation(body: bytes, max_nodes: int) -> bytes:
    """What is outside of strings, if the body is JSON."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if body.count(b'"') > 2 * max_nodes:
        raise _too_many(max_nodes)
    return b"".join(body.split(b'"')[::2])


def _too_many(max_nodes: int) -> TooMuchJson:
    return TooMuchJson(f"it holds more than {max_nodes} values and keys")


def _keys(value: object, max_depth: int) -> int:
    """The number of keys.

    Raises:
        InvalidJson: a number is infinite, or the values are nested too deeply.
    """
    keys, level = 0, [value]
    for depth in count():
        if any(isinstance(each, float) and not isfinite(each) for each in level):
            raise InvalidJson(_TOO_LARGE)
        objects = [each for each in level if isinstance(each, dict)]
        lists = [each for each in level if isinstance(each, list)]
        if not objects and not lists:
            break
        if depth == max_depth:
            raise TooMuchJson(f"its lists and objects are nested more than {max_depth} deep")
        keys += sum(map(len, objects))
        level = [*chain(*lists), *chain(*(each.values() for each in objects))]
    return keys


def _twice(body: bytes) -> str:
    """A duplicate key of a JSON text that has one."""
    found: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        times = Counter(key for key, _ in pairs)
        found.extend(key for key, number in times.most_common(1) if number > 1)

    json.loads(body, object_pairs_hook=look)
    return found[0][:_SHOWN_CHARACTERS]
