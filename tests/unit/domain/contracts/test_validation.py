"""Errors speak in the sender's terms: in problems, refusals and settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from domain.contracts.job import JobFile
from domain.contracts.strict_json import read_as
from domain.contracts.validation import describe
from domain.intents.content import IntentContent
from domain.models.settings import ModelSettings
from functions.intents_http import Cancellation
from functions.operations_http import KillRequest, ReplayRequest
from functions.problems import invalid_fields
from functions.similar_http import SearchRequest
from sandbox_host.settings import Settings

ECHO: dict[str, Any] = {"language": "python", "files": {"main.py": "1"}}


def problem(content: object) -> dict[str, Any]:
    with pytest.raises(ValidationError) as wrong:
        read_as(IntentContent, json.dumps(content).encode())
    body: dict[str, Any] = json.loads(invalid_fields(wrong.value).response().get_body())
    return body


@pytest.mark.parametrize(
    ("content", "pointer", "says"),
    [
        ({"text": "x", "metadata": {"a b": ""}}, "/metadata/a b", "must be named with 1 to 64"),
        ({"text": "x", "metadata": {"k\n": ""}}, "/metadata/k\n", "must be named with 1 to 64"),
        ({"program": {**ECHO, "language": "?"}}, "/program/language", "must be the lower-case"),
        (
            {"program": {**ECHO, "environment": {"PATH": "/"}}},
            "/program/environment/PATH",
            "must be named APP_",
        ),
        ({"program": {**ECHO, "files": 5}}, "/program/files", "must be a list"),
        ({"program": []}, "/program", "must be an object"),
        (
            {"program": {**ECHO, "files": {"a.py": "", "../b": ""}}},
            "/program/files/..~1b",
            "must be a relative path",
        ),
        (
            {"program": {**ECHO, "files": {"a.py": 5}}},
            "/program/files/a.py",
            "must be text",
        ),
        (
            {"program": {**ECHO, "files": [{"path": "../b", "content": ""}]}},
            "/program/files/0/path",
            "must be a relative path",
        ),
        ({"program": {**ECHO, "files": {}}}, "/program/files", "must have at least 1 item"),
        (
            {"program": {**ECHO, "files": {str(n): "" for n in range(65)}}},
            "/program/files",
            "must have at most 64 items",
        ),
        ({"text": "x" * 8_001}, "/text", "must have at most 8000 characters"),
        ({"text": " "}, "/text", "must not be blank"),
        ({"text": "x", "zzz": 1}, "/zzz", "is not a field here; there are: "),
        (
            {"program": {**ECHO, "limits": {"seconds": 5}}},
            "/program/limits/seconds",
            "is not a field here; there are: artifact_bytes, disk_bytes, memory_bytes, output_byte",
        ),
        (
            {"program": {**ECHO, "limits": {"wall_seconds": "5"}}},
            "/program/limits/wall_seconds",
            "must be a number, not text or anything else",
        ),
        (
            {"program": {**ECHO, "limits": {"processes": 1.5}}},
            "/program/limits/processes",
            "must be a whole number",
        ),
        (
            {"program": {**ECHO, "limits": {"processes": 9**9}}},
            "/program/limits/processes",
            "must be at most 512",
        ),
        ({"program": {"language": "python"}}, "/program/files", "must be given"),
        (
            {"text": "x", "planning": {"reuse": "x" * 9000}},
            "/planning/reuse",
            "must be 'exact', 'similar' or 'never'",
        ),
    ],
)
def test_a_problem_speaks_of_what_was_sent(
    content: dict[str, Any], pointer: str, says: str
) -> None:
    body = problem(content)
    assert body["errors"][0]["pointer"] == pointer
    assert body["errors"][0]["detail"].startswith(says)
    assert body["detail"].startswith(f"{pointer}: {says}")
    assert "pattern" not in json.dumps(body)
    assert "validation" not in json.dumps(body)
    assert "[key]" not in json.dumps(body)


@pytest.mark.parametrize(
    ("form", "content", "says"),
    [
        (ReplayRequest, {"ids": ["x" * 9000]}, "/ids/0: must be a UUID, such as 0"),
        (ReplayRequest, {"execute": 1}, "/execute: must be true or false"),
        (ReplayRequest, {"limit": 501}, "/limit: must be at most 500"),
        (
            ReplayRequest,
            {"z" * 9000: 1},
            "z…: is not a field here; there are: execute, expected, ids, limit, to, where",
        ),
        (KillRequest, {"zzz": 1}, "/zzz: is not a field here; there are: reason"),
        (Cancellation, {"zzz": 1}, "/zzz: is not a field here; there are: reason"),
        (
            SearchRequest,
            {"text": "x", "zzz": 1},
            "/zzz: is not a field here; there are: created_after, created_before, language, limit",
        ),
    ],
)
def test_fields_of_other_bodies_are_spoken_of_alike(
    form: type[object], content: object, says: str
) -> None:
    with pytest.raises(ValidationError) as wrong:
        read_as(form, json.dumps(content).encode())
    told = invalid_fields(wrong.value).detail
    assert says in told
    assert len(told) < 250


def test_a_long_name_is_cut_so_that_the_reason_is_seen() -> None:
    body = problem({"text": "x", "metadata": {"k" * 100_000: "v"}})
    assert len(json.dumps(body)) < 1000
    assert "must be named" in body["detail"]


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        (ModelSettings, {"QLP_EMBEDDING_MODEL": "a b"}, "QLP_EMBEDDING_MODEL: must be the name"),
        (
            Settings,
            {"QLP_SANDBOX_ENGINE_RUNTIME": "a b"},
            "QLP_SANDBOX_ENGINE_RUNTIME: must be the name of a runtime",
        ),
        (JobFile, {"path": "../a", "content": ""}, "path: must be a relative path"),
        (JobFile, {"path": "a\n", "content": ""}, "path: must be a relative path"),
    ],
)
def test_errors_of_other_inputs_are_in_plain_words(model: Any, given: object, says: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        model.model_validate(given)
    assert describe(wrong.value).startswith(says)
