"""Reads JSON that strangers wrote: bounded before it is looked into, and with one meaning only.

A body is counted by its punctuation, at the speed of a search for bytes, before anything is built
of it. So it costs about the same whatever it holds, and what is checked afterwards is small. JSON
that readers understand differently is refused: keys that occur twice, numbers that are none. And
nothing is taken for what it is not: ``true`` is no number, ``"1"`` none either, and a number no
time. What is the same in JSON is the same here: ``5.0`` is 5, as libraries write it that know no
whole numbers; and where something may be left out, null leaves it out, as most libraries do.

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

#: Values and keys, and lists and objects within one another, where a reader says nothing else: a
#: content, a job or a result with all that it may have holds less than half of them.
MAX_NODES = 2_000
MAX_DEPTH = 16

T = TypeVar("T")

_SHOWN_CHARACTERS = 64

# Those of UTF-32 begin like those of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class InvalidJson(ValueError):
    """The text is not JSON, or not such as is taken; the message says what is wrong with it."""


class TooMuchJson(InvalidJson):
    """The text holds more values, or deeper ones, than are taken; it has not been read."""


def other_encoding(body: bytes) -> str | None:
    """In what the body is written, if that shows and is not UTF-8.

    JSON begins with two ASCII characters: where one of the first four bytes is NUL, each character
    takes two or four (RFC 4627, section 3).
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return name
    zeros = body[:4].count(0)
    return None if not zeros else "UTF-32" if zeros > 2 else "UTF-16"


_ANY_TIME = TypeAdapter(AwareDatetime)
_BEGINS_WITH_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _time(value: object) -> datetime:
    """The moment that text says; a bare number, which pydantic would take, is none."""
    if isinstance(value, datetime) or (isinstance(value, str) and _BEGINS_WITH_DATE.match(value)):
        with suppress(ValidationError):
            return _ANY_TIME.validate_python(value)
    raise ValueError("must be a time with its timezone, such as 2026-03-01T12:00:00Z")


#: A time with its offset from UTC.
Time = Annotated[datetime, AwareDatetime, BeforeValidator(_time)]


@dataclass(frozen=True, slots=True)
class NullIs:
    """Marks a field that may be null, and is the default then, as if it were left out."""

    default: object

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Called by pydantic."""
        return null_is(handler(source), lambda: self.default)


def null_is(schema: CoreSchema, default: Callable[[], object]) -> CoreSchema:
    """What ``schema`` takes, and null for what ``default`` makes."""
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
    """The value of a JSON text as ``type_``; a scalar of another type than its field's is wrong.

    Args:
        type_: anything pydantic can check.
        body: as for `read_json`, and so are the bounds.
        max_nodes: see there.
        max_depth: see there.
        context: for the validators of ``type_``.
        ignore_unknown: fields that ``type_`` does not know are left out, not refused: whoever wrote
            them is one of our own parts, of a later release.

    Raises:
        pydantic.ValidationError: it is no such JSON, or names each field that is wrong.
    """
    try:
        value = read_json(body, max_nodes=max_nodes, max_depth=max_depth)
    except InvalidJson as error:
        # What is said of the input may hold braces, which are placeholders in a custom message.
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


#: Up to here a double is one whole number and not several (RFC 7493, section 2.2).
_MOST_WHOLE = 2**53


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) < _MOST_WHOLE


def _has_whole(value: object) -> bool:
    """Whether there are numbers such as 5.0 and 1e3."""
    if isinstance(value, dict | list):
        return any(map(_has_whole, value.values() if isinstance(value, dict) else value))
    return _is_whole(value)


def _whole(value: Any) -> object:  # noqa: ANN401 JSON
    """The same JSON with such numbers written as whole ones."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if _is_whole(value) else value


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(type_: type[T]) -> TypeAdapter[T]:
    """Pydantic's reader of a type, made when it is first needed."""
    known = _ADAPTERS.get(type_)
    if known is None:
        known = _ADAPTERS[type_] = TypeAdapter(type_)
    return known


def read_json(body: bytes, *, max_nodes: int, max_depth: int) -> object:
    """The value of a JSON text (UTF-8), of which the caller has checked the size.

    Args:
        body: the text.
        max_nodes: most values and keys together, at all depths; one that is empty, ``[]`` or
            ``{}``, counts as two.
        max_depth: most lists and objects within one another.

    Raises:
        InvalidJson: it is none, has more or deeper nodes, a key twice in one object, a number
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


def _why_not(body: bytes, error: ValueError) -> str:
    """What keeps a text from being JSON, of which its reader has said ``error``."""
    if not body.strip():
        return "it is empty"
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return f"it is not JSON in UTF-8: byte {wrong.start + 1} is none of it"
    return f"it is not JSON: {error}"


def _punctuation(body: bytes, max_nodes: int) -> bytes:
    """What stands outside of strings, if it is JSON."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if body.count(b'"') > 2 * max_nodes:
        raise _too_many(max_nodes)
    return b"".join(body.split(b'"')[::2])


def _too_many(max_nodes: int) -> TooMuchJson:
    return TooMuchJson(f"it holds more than {max_nodes} values and keys")


def _keys(value: object, max_depth: int) -> int:
    """How many keys there are; what only a look at the values shows is refused."""
    keys, level = 0, [value]
    for depth in count():
        if any(isinstance(each, float) and not isfinite(each) for each in level):
            raise InvalidJson("a number in it is too large")
        objects = [each for each in level if isinstance(each, dict)]
        lists = [each for each in level if isinstance(each, list)]
        if not objects and not lists:
            break
        if depth == max_depth:
            raise TooMuchJson(f"its lists and objects lie more than {max_depth} deep in each other")
        keys += sum(map(len, objects))
        level = [*chain(*lists), *chain(*(each.values() for each in objects))]
    return keys


def _twice(body: bytes) -> str:
    """A key that occurs twice in an object of a JSON text that has one."""
    found: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        times = Counter(key for key, _ in pairs)
        found.extend(key for key, number in times.most_common(1) if number > 1)

    json.loads(body, object_pairs_hook=look)
    return found[0][:_SHOWN_CHARACTERS]
