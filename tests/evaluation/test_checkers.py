"""Checkers say what is wrong, whatever they are given."""

from __future__ import annotations

import io
import json
import zipfile
import zlib

import pytest

from tests.evaluation.case import Checker, Output
from tests.evaluation.checkers import (
    any_order,
    archive,
    csv_rows,
    database,
    gzipped,
    html_table,
    image,
    json_lines,
    json_value,
    judge,
    matches,
    number,
    numbers,
    text,
    tone,
    xml_counts,
)


@pytest.mark.parametrize(
    ("checker", "stdout"),
    [
        (text("a\nb"), "\na  \r\nb\n\n"),
        (any_order("a", "b"), "b\n\n a\n"),
        (matches("a|b"), "b\n"),
        (number(1234567.5), "the sum is 1,234,567.50 EUR"),
        (number(-3), "−3"),
        (number(1229, 10000), "1229 primes are below 10000"),
        (number(10, 10), "10 of 10"),
        (number(0.1 + 0.2, within=1e-9), "0.3"),
        (number(10**30 + 1), str(10**30 + 1)),
        (numbers(1, 2), "from 1 to 2."),
        (json_value({"a": [1, True, None]}), '{ "a": [1.0, true, null] }'),
        (json_lines(1, {"b": 2}), '1\n\n{"b":2}'),
        (csv_rows(["a", "b"], ["1,5", "x"]), 'a, b\r\n"1,5",x\r\n'),
    ],
)
def test_what_no_user_would_mind_is_accepted(checker: Checker, stdout: str) -> None:
    assert judge(checker, Output(stdout)) is None


@pytest.mark.parametrize(
    ("checker", "stdout"),
    [
        (text("a\nb"), "a b"),
        (text("A"), "a"),
        (any_order("a", "b"), "a\nb\nb"),
        (matches("a|b"), "ab"),
        (number(3), "v3 x3y 13"),
        (number(3), "3 of 5"),
        (number(3, 5), "4 of 5"),
        (number(10**30), str(10**30 + 1)),
        (number(0.3), "0.30001"),
        (number(3), "9" * 5000),
        (numbers(1, 2), "1 2 3"),
        (numbers(1, 2), "2 1"),
        (json_value({"a": 1}), '{"a": true}'),
        (json_value({"a": 1}), '{"a": 1, "b": 2}'),
        (json_value([1, 2]), "[1, 2, 3]"),
        (json_value([1]), "{'a': 1}"),
        (json_value([1]), "[" * 200_000),
        (json_value("1"), "1"),
        (json_value(1), "NaN"),
        (json_lines(1, 2), "[1, 2]"),
        (csv_rows(["a", "b"]), "a;b"),
        (csv_rows(["a"]), '"' + "x" * 200_000),
    ],
)
def test_wrong_text_is_refused_in_a_short_sentence(checker: Checker, stdout: str) -> None:
    wrong = judge(checker, Output(stdout))
    assert wrong
    assert len(wrong) <= 600


def bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.txt", bytes(64 * 1024**2))
    return content.getvalue()


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(bytes(64 * 1024**2)) + packer.flush()


#: A billion laughs.
ENTITIES = "<!DOCTYPE x [<!ENTITY e0 'ha'>{}]><x>&e9;</x>".format(
    "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 20}'>" for n in range(1, 10))
)
#: A PNG that says it is 60,000 pixels wide and high.
HUGE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xea`\x00\x00\xea`\x08\x02\x00\x00\x00"
    + zlib.crc32(b"IHDR\x00\x00\xea`\x00\x00\xea`\x08\x02\x00\x00\x00").to_bytes(4)
)


@pytest.mark.parametrize(
    ("checker", "hostile"),
    [
        (text("a", "f"), b"\xff\xfe"),
        (json_value({}, "f"), b"\x00"),
        (archive("f", {"a.txt": "a"}), bomb()),
        (archive("f", {"a.txt": "a"}), bomb()[:-30]),
        (gzipped("f", "a"), gzip_bomb()),
        (gzipped("f", "a"), b"\x1f\x8b\x08\x00"),
        (image("f", (60_000, 60_000), {(0, 0): (0, 0, 0)}), HUGE),
        (image("f", (1, 1), {(0, 0): (0, 0, 0)}), b"\x89PNG\r\n\x1a\n"),
        (xml_counts("f", x=1), ENTITIES.encode()),
        (xml_counts("f", x=1), ENTITIES.encode("utf-16")),
        (xml_counts("f", x=1), b"<x>" * 100_000),
        (html_table("f", ["a"]), b"<td>a<tr><td>b"),
        (database("f", "select 1 from t", (1,)), b"SQLite format 3\x00" + b"\xff" * 4096),
        (tone("f", 440, 1, 8000), b"RIFF\xff\xff\xff\xffWAVEfmt "),
    ],
)
def test_hostile_files_are_refused(checker: Checker, hostile: bytes) -> None:
    assert judge(checker, Output("", {"f": hostile}))
    missing = judge(checker, Output("", {"other": hostile}))
    assert missing is not None
    assert "no artifact f; there are: other" in missing


def test_a_float_that_only_looks_equal_is_taken_within_its_tolerance() -> None:
    assert judge(json_value({"x": 0.3}), Output(json.dumps({"x": 0.1 + 0.2}))) is None
    assert judge(json_value({"x": 0.3}), Output('{"x": 0.31}'))
