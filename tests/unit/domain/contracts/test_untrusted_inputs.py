"""Whatever comes from outside is judged quickly, and never read as another type."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from domain.contracts.strict_json import read_as
from functions.problems import invalid_fields
from tests.support.cpu_time import assert_quick
from tests.support.untrusted_inputs import (
    EXAMPLES,
    LAX_READERS,
    OTHER_READERS,
    UntrustedInput,
    calls,
    untrusted_inputs,
)

#: CPU time for a body; idle machines need a tenth. Before there were bounds it was seconds.
_CPU_SECONDS = 0.15

#: Of a body; the largest that any untrusted input may have.
_BYTES = 1024**2

Path = tuple[str | int, ...]

#: Recorded as a provider or a host wrote it, in no fixed shape; and unions of int and float.
_FREE = ("usage", "behaviour", "skipped_artifacts")


class Quiet(GenerateJsonSchema):
    """Does not warn of defaults, which do not matter here."""

    def emit_warning(self, kind: Any, detail: str) -> None: ...


def leaves(
    value: Any, path: Path = (), within: Callable[[Any], bool] = lambda _: False
) -> Iterator[tuple[Path, Any]]:
    """Everything in an example, objects and lists too, with its path.

    Where ``within`` is true of a part of the example, its members are left out.
    """
    yield path, value
    if isinstance(value, dict | list) and not (path and within(value)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value[:2]):
            yield from leaves(item, (*path, name), within)


def _tried_by_themselves(value: Any) -> bool:
    """Whether it is another input's example: its fields are tried there."""
    return value in EXAMPLES.values()


def changed(value: Any, path: Path, to: Any) -> Any:
    """A copy of an example with another value at a path."""
    if not path:
        return to
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], to)
    return copy


def wrong_for(value: Any) -> list[Any]:
    """Values of other types, also those that a lax reader would convert."""
    if isinstance(value, bool):
        return [0, 1, 1.0, "true", "yes", "", [], {}]
    if isinstance(value, int):
        return [True, False, str(value), f"{value}_0", value + 0.5, [value], {}]
    if isinstance(value, float):
        return [True, False, str(value), "nan", [value], {}]
    if isinstance(value, str):
        times = ["1772366400", "-1", 1772366400, 1772366400.5] if value[4:5] == "-" else []
        return [0, 1, 1.5, True, False, ["a"], {"a": "b"}, *times]
    return [0, 1, True, "a", "", {"a": 1} if isinstance(value, list) else [["a", "b"]]]


@pytest.mark.parametrize("untrusted", untrusted_inputs(), ids=str)
def test_an_honest_value_is_read_and_has_every_field_of_its_type(untrusted: UntrustedInput) -> None:
    assert read_as(
        untrusted.type, json.dumps(untrusted.example).encode(), max_nodes=untrusted.max_nodes
    )
    if untrusted.type.__name__ in EXAMPLES:
        schema = TypeAdapter(untrusted.type).json_schema(schema_generator=Quiet)
        assert list(unseen(schema, schema.get("$defs", {}), untrusted.example)) == []


@pytest.mark.parametrize("untrusted", untrusted_inputs(), ids=str)
def test_a_value_of_another_type_is_refused_at_its_field(untrusted: UntrustedInput) -> None:
    tried = 0
    for path, value in leaves(untrusted.example):
        if any(part in _FREE for part in path) and untrusted.type.__name__ not in EXAMPLES:
            continue
        for wrong in wrong_for(value):
            if path[-1:] == ("files",) and isinstance(wrong, dict):
                wrong = {}  # a map of names to texts is the short form
            if path[-1:] == ("status",) and isinstance(value, list) and wrong in ("", "a"):
                wrong = 1.5  # one alone needs no list
            body = json.dumps(changed(untrusted.example, path, wrong)).encode()
            assert path in refused_at(untrusted, body, len(path)), (
                f"{wrong!r} was taken for {value!r}"
            )
            tried += 1
    assert tried >= 5


def test_nothing_else_reads_untrusted_input() -> None:
    """`read_as` is what bounds and is strict; whatever else pydantic reads is known here."""
    found = {module for module, _ in calls(LAX_READERS)}
    assert found <= OTHER_READERS.keys(), f"read it with read_as: {found - OTHER_READERS.keys()}"


def refused_at(untrusted: UntrustedInput, body: bytes, depth: int) -> list[Path]:
    """Where a body is wrong, to some depth."""
    try:
        read_as(untrusted.type, body, max_nodes=untrusted.max_nodes)
    except ValidationError as error:
        return [each["loc"][:depth] for each in error.errors()]
    return []


@pytest.mark.parametrize("untrusted", untrusted_inputs(), ids=str)
def test_the_worst_that_each_field_can_be_fed_is_judged_quickly(untrusted: UntrustedInput) -> None:
    assert_judged_quickly(untrusted, worst_bodies(untrusted))


@pytest.mark.parametrize(
    "untrusted",
    {untrusted.max_nodes: untrusted for untrusted in untrusted_inputs()}.values(),
    ids=str,
)
def test_what_is_far_beyond_the_bounds_is_judged_quickly(untrusted: UntrustedInput) -> None:
    """It is counted before its type matters: one type of each bound will do."""
    assert_judged_quickly(untrusted, floods(untrusted))


def assert_judged_quickly(untrusted: UntrustedInput, bodies: Iterator[tuple[str, bytes]]) -> None:
    slowest = ("", 0.0)
    gc.collect()
    gc.disable()  # what other tests have left behind is not this one's cost
    try:
        for name, body in bodies:
            began = time.process_time()
            judge(untrusted, body)
            slowest = max(slowest, (name, time.process_time() - began), key=lambda it: it[1])
    finally:
        gc.enable()
    print(f"{untrusted}: {slowest[1] * 1e3:.1f} ms for {slowest[0]}")
    assert_quick(slowest[1], _CPU_SECONDS, slowest[0])


def judge(untrusted: UntrustedInput, body: bytes) -> None:
    """Read a body and say what is wrong with it, as over HTTP: briefly."""
    said = b""
    try:
        read_as(untrusted.type, body, max_nodes=untrusted.max_nodes)
    except ValidationError as error:
        said = invalid_fields(error).response().get_body()
    assert len(said) < 10_000


def worst_bodies(untrusted: UntrustedInput) -> Iterator[tuple[str, bytes]]:
    """At each field, the worst of each form up to the bounds."""
    hole = "\x00hole"
    marker = json.dumps(hole).encode()
    fields = {
        tuple("*" if isinstance(part, int) else part for part in path): (path, value)
        for path, value in leaves(untrusted.example, within=_tried_by_themselves)
    }
    for path, value in fields.values():
        before, after = json.dumps(changed(untrusted.example, path, hole)).encode().split(marker)
        for name, worst in worst_values(untrusted.max_nodes - 120):
            if name.startswith("text of") == isinstance(value, str):
                yield f"{path} {name}", before + worst + after


def floods(untrusted: UntrustedInput) -> Iterator[tuple[str, bytes]]:
    """Far beyond the bounds."""
    whole = json.dumps(untrusted.example).encode()
    for name, extra in (("unknown keys", b'"k%d":1'), ("one key", b'"k":1')):
        keys = b",".join(extra % number if b"%" in extra else extra for number in range(60_000))
        yield name, whole[:-1] + b"," + keys + b"}"
    yield from _flood_values()


@cache
def worst_values(nodes: int) -> list[tuple[str, bytes]]:
    """Within a bound of values and keys."""
    return list(_worst_values(nodes, _BYTES // 4))


def _worst_values(nodes: int, size: int) -> Iterator[tuple[str, bytes]]:
    each = size // nodes
    yield "objects", b"[" + b",".join([b"{}"] * (nodes // 3)) + b"]"
    yield "numbers", b"[" + b",".join([b"1"] * nodes) + b"]"
    yield "texts", b"[" + b",".join([b'"' + b"a" * each + b'"'] * nodes) + b"]"
    yield (
        "map",
        (
            b"{"
            + b",".join(b'"%d":"%s"' % (n, b"\\n" * (each // 4)) for n in range(nodes // 2))
            + b"}"
        ),
    )
    yield "long keys", b'{"' + b'":1,"'.join(b"%d" % n * 50 for n in range(nodes // 2)) + b'":1}'
    for piece in (b"a", b"../", b"a/", b"\\u00e9", b"\\n", b"0", b" ", "é".encode(), b"a.b-", b"%"):
        yield f"text of {piece!r}", b'"' + piece * (size // len(piece)) + b'"'
    yield "digits", b"[" + b",".join([b"9" * 4000] * (size // 4001)) + b"]"
    yield "fraction", b"0." + b"1" * size
    yield "nested", b"[" * 190 + b"]" * 190


def _flood_values() -> Iterator[tuple[str, bytes]]:
    for piece in (b"{}", b"[]", b"1", b'""', b'{"a":1}', b"1e9", b"null", b'"\\""'):
        yield f"{piece!r}", b"[" + b",".join([piece] * (_BYTES // (len(piece) + 1))) + b"]"
    yield "digits", b"9" * _BYTES
    yield "exponent", b"1e" + b"9" * (_BYTES - 2)
    yield "depth", b"[" * _BYTES
    yield "deep map", b'{"a":' * (_BYTES // 5)
    yield "quotes", b'"' * _BYTES
    yield "backslashes", b'"' + b"\\" * _BYTES


def unseen(schema: Any, definitions: Any, example: Any, path: Path = ()) -> Iterator[Path]:
    """Fields in a JSON Schema that an example lacks."""
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for option in schema.get("anyOf", ()):
        yield from unseen(option, definitions, example, path)
    for name, field in schema.get("properties", {}).items():
        if name not in example:
            yield (*path, name)
        else:
            yield from unseen(field, definitions, example[name], (*path, name))
    if "items" in schema:
        yield from unseen(schema["items"], definitions, example[0], (*path, 0))
