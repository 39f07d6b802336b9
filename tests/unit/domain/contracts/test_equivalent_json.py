"""JSON that means the same is read the same, whichever library wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from domain.contracts.heartbeat import Heartbeat
from domain.contracts.strict_json import read_as
from domain.intents.content import IntentContent
from functions.intents_http import Cancellation
from functions.operations_http import ReplayRequest
from functions.problems import invalid_fields
from functions.similar_http import SearchRequest
from tests.support.untrusted_inputs import EXAMPLES

FILES = [{"path": "main.py", "content": "1"}]


def content(**program: Any) -> dict[str, Any]:
    return {"text": "six", "program": {"language": "python", "files": FILES, **program}}


@pytest.mark.parametrize("number", ["268435456.0", "2.68435456E8", "268435456e0", "2.68435456e+08"])
def test_a_whole_number_may_be_written_as_a_double(number: str) -> None:
    """As Gson, Newtonsoft and Lua write it, and others after a division."""
    body = json.dumps(content(limits={"memory_bytes": "HERE", "wall_seconds": 5.0}))
    read = read_as(IntentContent, body.replace('"HERE"', number).encode())
    same = read_as(IntentContent, body.replace('"HERE"', "268435456").encode())
    assert (read, read.fingerprint()) == (same, same.fingerprint())


@pytest.mark.parametrize("number", ["0.5", "268435456.5", "1e300", "9007199254740993.0"])
def test_a_fraction_or_an_inexact_double_is_no_whole_number(number: str) -> None:
    body = json.dumps(content(limits={"memory_bytes": "HERE"})).replace('"HERE"', number)
    with pytest.raises(ValidationError) as raised:
        read_as(IntentContent, body.encode())
    [problem] = raised.value.errors()
    assert problem["loc"] == ("program", "limits", "memory_bytes")


def optional(type_: Any, example: dict[str, Any]) -> list[str]:
    """The fields that may be left out, one at a time."""
    found = []
    for name in example:
        rest = {key: value for key, value in example.items() if key != name}
        try:
            read_as(type_, json.dumps(rest).encode())
        except ValidationError:
            continue
        found.append(name)
    return found


@pytest.mark.parametrize("type_", [IntentContent, SearchRequest, ReplayRequest, Cancellation])
def test_null_means_left_out(type_: Any) -> None:
    """Go writes an empty list as null; Jackson, Gson and .NET write unset fields so."""
    example = EXAMPLES[type_.__name__]
    names = optional(type_, example)
    assert names
    for name in names:
        rest = {key: value for key, value in example.items() if key != name}
        left_out = read_as(type_, json.dumps(rest).encode())
        assert read_as(type_, json.dumps({**rest, name: None}).encode()) == left_out


def test_null_means_left_out_in_all_of_a_program() -> None:
    unset = dict.fromkeys(["entrypoint", "args", "stdin", "environment", "limits"])
    files = [{**FILES[0], "encoding": None}]
    whole = {**content(**{**unset, "files": files}), "planning": {"reuse": None}, "metadata": None}
    read = read_as(IntentContent, json.dumps(whole).encode())
    assert read == read_as(IntentContent, json.dumps(content()).encode())


@pytest.mark.parametrize("body", [{"text": "a", "metadata": {"a": None}}, content(language=None)])
def test_null_is_refused_where_a_value_is_required(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_as(IntentContent, json.dumps(body).encode())


def test_a_host_of_a_later_release_may_say_more_in_its_heartbeat() -> None:
    example = EXAMPLES["Heartbeat"]
    more = {**example, "load": 0.5, "runs": [{**example["runs"][0], "warm": True}]}
    body = json.dumps(more).encode()
    assert read_as(Heartbeat, body, ignore_unknown=True) == read_as(
        Heartbeat, json.dumps(example).encode()
    )


def test_only_fields_that_are_wrong_themselves_are_named() -> None:
    files = [{"path": "../x", "content": "1"}]
    body = {"language": "python", "files": files, "limits": {"processes": "5"}}
    with pytest.raises(ValidationError) as raised:
        read_as(IntentContent, json.dumps({"program": body}).encode())
    said = json.loads(invalid_fields(raised.value).response().get_body())
    named = [each["pointer"] for each in said["errors"]]
    assert named == ["/program/files/0/path", "/program/limits/processes"]
