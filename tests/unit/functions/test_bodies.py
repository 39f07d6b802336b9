from __future__ import annotations

import codecs
import json

import azure.functions as func
import pytest

from functions.bodies import (
    MAX_BODY_BYTES,
    MAX_ESCAPED_BODY_BYTES,
    check_body_is_whole,
    check_no_body,
    json_body,
)
from functions.problems import Problem

TEXT = '{"text": "é"}'


def request(body: bytes = b"", **headers: str) -> func.HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return func.HttpRequest("POST", "http://x/api/intents", headers=named, body=body)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON ; Charset=UTF-8",
        'application/json;v=1; charset="utf-8"',
        "application/json; charset=us-ascii",
        "application/cloudevents+json",
        "",
    ],
)
def test_json_is_accepted_under_each_of_its_names(content_type: str) -> None:
    assert json_body(request(TEXT.encode(), content_type=content_type)) == TEXT.encode()


@pytest.mark.parametrize(
    ("content_type", "named"),
    [
        ("text/plain", "application/json"),
        ("text/plain,application/x+json", "application/json"),
        ("application/json,application/json", "application/json"),
        ("+json", "application/json"),
        ("application/json; charset=utf-16", "utf-16"),
        ("application/json; charset=iso-8859-1", "iso-8859-1"),
        ('application/json; charset="windows-1252"', "windows-1252"),
        ("application/json; charset=utf-8; charset=utf-16", "utf-16"),
    ],
)
def test_a_body_declared_as_something_else_is_415(content_type: str, named: str) -> None:
    with pytest.raises(Problem, match=named) as refused:
        json_body(request(TEXT.encode(), content_type=content_type))
    assert refused.value.status == 415


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (codecs.BOM_UTF8 + TEXT.encode(), "byte order mark"),
        (TEXT.encode("utf-16"), "UTF-16"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32"), "UTF-32"),
        (TEXT.encode("utf-32-le"), "UTF-32"),
        (TEXT.encode("utf-32-be"), "UTF-32"),
        (codecs.BOM_UTF16_LE, "UTF-16"),
    ],
)
def test_a_body_in_another_encoding_is_named(body: bytes, named: str) -> None:
    with pytest.raises(Problem, match=named) as refused:
        json_body(request(body))
    assert refused.value.status == 400


@pytest.mark.parametrize("coding", ["gzip", "identity, gzip", "br", "x" * 5000])
def test_a_compressed_body_is_415(coding: str) -> None:
    with pytest.raises(Problem, match="without Content-Encoding") as refused:
        check_body_is_whole(request(b"{}", content_encoding=coding))
    assert refused.value.status == 415
    assert len(refused.value.detail) < 250


def test_a_body_in_chunks_is_411() -> None:
    with pytest.raises(Problem, match="Content-Length") as refused:
        check_body_is_whole(request(transfer_encoding="chunked"))
    assert refused.value.status == 411
    check_body_is_whole(request(b"{}", content_encoding="Identity"))


@pytest.mark.parametrize("headers", [{"transfer_encoding": "chunked"}, {}])
def test_a_body_is_refused_where_none_is_taken(headers: dict[str, str]) -> None:
    with pytest.raises(Problem, match="takes no body here"):
        check_no_body(request(b"" if headers else b"x", **headers))
    check_no_body(request(content_length="0"))


def test_an_escaped_character_counts_as_the_character() -> None:
    text = "é" * (MAX_BODY_BYTES // 2 - 100)
    for ascii_only in (False, True):
        body = json.dumps({"text": text}, ensure_ascii=ascii_only).encode()
        assert json_body(request(body)) == body
    with pytest.raises(Problem, match="the limit is 262144") as refused:
        json_body(request(json.dumps({"text": text + "é" * 200}).encode()))
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b"x" * (MAX_BODY_BYTES + 1), MAX_BODY_BYTES),
        (b"\\u" * MAX_ESCAPED_BODY_BYTES, MAX_ESCAPED_BODY_BYTES),
    ],
)
def test_no_escape_hides_a_body_that_is_too_large(body: bytes, limit: int) -> None:
    with pytest.raises(Problem, match=f"the limit is {limit}"):
        json_body(request(body))


def test_a_routes_own_limit_counts_bytes_as_sent() -> None:
    assert json_body(request(b'"' + b"x" * 398 + b'"'), 400)
    with pytest.raises(Problem, match="the limit is 400"):
        json_body(request(b'"' + b"\\u00e9" * 67 + b'"'), 400)
