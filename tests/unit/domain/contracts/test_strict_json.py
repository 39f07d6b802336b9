"""JSON from outside is counted before it is parsed, and refused where it has two meanings."""

from __future__ import annotations

import gzip
import json

import pytest

from domain.contracts.strict_json import InvalidJson, other_encoding, read_json


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, -2.5, 1e300, true, null], "b": {"c": "d"}}',
        r'{"a\\": "b", "a\"": "{:,[", "c": "\u00e9\ud83d\ude00"}',
        '"alone"',
        "12",
        " [ ] ",
        '{"a": {"b": 1}, "c": {"b": 1}}',
    ],
)
def test_what_is_json_is_read_as_it_is(text: str) -> None:
    assert read_json(text.encode(), max_nodes=20, max_depth=3) == json.loads(text)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"{", "it is not JSON: EOF"),
        (b'{"a": 1} x', "it is not JSON: trailing characters"),
        (b'"\xff"', "it is not UTF-8: byte 2"),
        (b'{"a": "\xed\xa0\x80"}', "it is not UTF-8: byte 8"),
        (rb'["\ud800"]', "a text in it holds half of a surrogate pair"),
        (rb'{"a": "\udc00"}', "a text in it holds half of a surrogate pair"),
        (rb'["\ud800\n"]', "a text in it holds half of a surrogate pair"),
        (rb'["\ud800', "it is not JSON: EOF"),
        (b"[NaN]", "it is not JSON"),
        (b"[-Infinity]", "it is not JSON"),
        (b"[1e999]", "a number in it is too large"),
        (b'{"a": -1e999}', "a number in it is too large"),
        (b"[" + b"9" * 5000 + b"]", "a number in it is too large"),
        (b"[-" + b"9" * 200_000 + b".5]", "a number in it is too large"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice"),
        (rb'[{"b": 1}, {"c": {"d\u0065": 1, "de": 2}}]', "the key 'de' occurs twice"),
        (b'{"' + b"k" * 500 + b'": 1, "' + b"k" * 500 + b'": 1}', "'" + "k" * 64 + "' occurs"),
    ],
)
def test_what_is_not_json_or_has_two_meanings_is_refused_with_the_reason(
    body: bytes, reason: str
) -> None:
    with pytest.raises(InvalidJson) as raised:
        read_json(body, max_nodes=100, max_depth=4)
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 200


def test_values_and_keys_are_counted_at_all_depths() -> None:
    body = b'{"a": [1, 2], "b": {"c": ","}}'  # 6 values and 3 keys
    assert read_json(body, max_nodes=9, max_depth=2)
    with pytest.raises(InvalidJson, match="more than 8 values and keys"):
        read_json(body, max_nodes=8, max_depth=2)


def test_punctuation_within_strings_does_not_count() -> None:
    body = json.dumps({"code": '{"a": [1, 2], "b": \\"c\\"}\n' * 500}).encode()
    assert read_json(body, max_nodes=3, max_depth=1)


@pytest.mark.parametrize("text", ["[[]]", '[{"a": 1}]', '{"a": {"b": 1}}'])
def test_depth_is_that_of_lists_and_objects(text: str) -> None:
    assert read_json(text.encode(), max_nodes=20, max_depth=2)
    with pytest.raises(InvalidJson, match="more than 1 deep"):
        read_json(text.encode(), max_nodes=20, max_depth=1)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (gzip.compress(b"{}", mtime=0), "gzip"),
        ("{}".encode("utf-16-le"), "UTF-16"),
        ("{}".encode("utf-32-be"), "UTF-32"),
        (b"\x89PN\0", None),
        (b"{}", None),
    ],
)
def test_what_a_body_is_encoded_as_is_told_by_its_first_bytes(
    body: bytes, name: str | None
) -> None:
    assert other_encoding(body) == name
